/**
 * Measures one hit of an instruction that is executed by a single step, again and again: `kernel-meter TIMES`. Writes the
 * nanoseconds of each, one a line.
 */

import { threadId } from 'node:worker_threads';

import { planEvent } from '../../src/engines/kernel/command.ts';
import { EventDefinitions } from '../../src/engines/kernel/definitions.ts';
import { TracingInstance } from '../../src/engines/kernel/instance.ts';
import { removeSession } from '../../src/engines/kernel/leftovers.ts';
import { PriceMeter } from '../../src/engines/kernel/price.ts';
import { ownName } from '../../src/engines/kernel/session-name.ts';
import { usableTracefs } from '../../src/engines/kernel/tracefs.ts';

const tracefs = usableTracefs() ?? '';
const name = ownName(threadId);
const event = `${name}_0`;
const definitions = new EventDefinitions(tracefs, name);
const instance = new TracingInstance(tracefs, name, { ringBytes: 65_536, reading: 'none' });
const meter = new PriceMeter(tracefs, name, definitions);
try {
  const scratch = meter.placesFor(event, new Set(['stepped']));
  if (scratch === undefined) throw new Error('no place');
  const plan = planEvent({ arguments: [], filter: undefined, action: 'record' });
  for (const place of [scratch.nop, ...scratch.kinds]) definitions.define(event, plan, place);
  definitions.turn(instance, event, true);
  for (let left = Number(process.argv[2]); left > 0; left--) {
    const [price] = meter.measure([{ names: [event], scratch }]) ?? [];
    const stepped = price && meter.priceAt(price, 'stepped');
    process.stdout.write(`${stepped?.refused}\n`);
  }
} finally {
  removeSession(tracefs, name);
  meter[Symbol.dispose]();
}
