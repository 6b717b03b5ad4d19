/** What one target is asked for on behalf of a probe, and what became of it. */

import { hex, type Address, type FileOffset, type Pid } from '../../base/brand.ts';
import { ensure } from '../../base/errors.ts';
import { COUNTER_BYTES } from '../../engines/jump/counters.ts';
import { UNMAPPED, type ConsumerRequest } from '../../engines/jump/prepare.ts';
import { MemoryReader } from '../../engines/jump/spaces.ts';
import { layoutOf } from '../../probe/program.ts';
import type { MemoryMapping } from '../../process/maps.ts';
import { CONSUMER_CAPACITY } from '../options.ts';
import type { PlanOf } from './plans.ts';
import type { ProbeAddition } from './probing.ts';
import type { ResolvedPlace } from './place-registry.ts';
import type { TargetSpace } from '../targets/target-spaces.ts';

type Requests = ReadonlyMap<ConsumerRequest, ResolvedPlace>;

/** What a target is asked for at the places of an addition; what can't be asked for is refused at once. */
export function requestsAt(
  { target, pid }: TargetSpace,
  maps: readonly MemoryMapping[],
  addition: ProbeAddition,
  places: readonly ResolvedPlace[],
  planOf: PlanOf,
): Requests {
  const program = addition.program(target.tids);
  const { reference } = addition.definition;
  const requests = new Map<ConsumerRequest, ResolvedPlace>();
  for (const place of places) {
    const { address, file } = place;
    const plan = planOf(place);
    const counter = reference === undefined ? undefined : file.counterIn(maps, reference);
    const noCounter = reference === undefined ? undefined : whyNoCounter(pid, reference, counter);
    const refuse = (reason: string): void => addition.refuse(pid, place, reason);
    const known = target.consumers.get(keyOf(addition, address));
    if (plan.kind === 'refused') refuse(plan.reason);
    else if (known === undefined && target.nextConsumer >= CONSUMER_CAPACITY) {
      // A stub's counter behind the last one would lie in a ring.
      const limit = `a session can have ${CONSUMER_CAPACITY} places in one process`;
      refuse(`${limit}, removed ones included: begin another session`);
    } else if (noCounter !== undefined) {
      refuse(
        `${noCounter}: leave (${hex(reference ?? 0)}) away if the code behind it runs without`,
      );
    } else {
      const consumer = known ?? target.nextConsumer++;
      const at = { plan, address, file: file.identity, counter };
      requests.set({ ...at, program, probe: addition.id, consumer }, place);
    }
  }
  return requests;
}

/** @returns what keeps the kernel, and us, from taking a place of a file for a counter */
function whyNoCounter(
  pid: Pid,
  reference: FileOffset,
  counter: Address | undefined,
): string | undefined {
  const where = `the counter's offset ${hex(reference)}`;
  if (reference % COUNTER_BYTES !== 0) return `${where} is odd, and a counter has two bytes`;
  if (counter === undefined) return `${where} is in no writable data of the file`;
  using reader = new MemoryReader(pid);
  const bytes = reader.read(counter, COUNTER_BYTES);
  const value = new DataView(bytes.buffer, bytes.byteOffset).getInt16(0, true);
  return value < 0 ? `at ${where} is ${value}, and no counter is below zero` : undefined;
}

/** Notes what became of the consumers that a target was asked to add. */
export function settle(
  { target, pid }: TargetSpace,
  addition: ProbeAddition,
  requests: Requests,
  reasons: ReadonlyMap<ConsumerRequest, string>,
): void {
  const { source, jump } = target;
  for (const [request, place] of requests) {
    const reason = reasons.get(request);
    if (reason === UNMAPPED) continue; // it will be seen again if it comes again
    if (reason !== undefined) {
      addition.refuse(pid, place, reason);
      continue;
    }
    const { consumer, program } = request;
    const site = jump.siteOf(request);
    const key = keyOf(addition, place.address);
    // The same place again, unloaded meanwhile or in a child: one consumer, whose counts go on.
    if (target.consumers.has(key)) continue;
    target.consumers.set(key, consumer);
    const layout = layoutOf(program);
    addition.note(place, { source, consumer, program, layout, address: place.address });
    ensure(site !== undefined, 'a consumer that was added has a site');
    addition.noteSite(pid, place, site.method, site.displacedBytes);
  }
}

function keyOf({ id }: ProbeAddition, at: Address): string {
  return `${id} ${at}`;
}
