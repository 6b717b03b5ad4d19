/** Hit and delete: sites come and go while eight threads, a timer's handler and forked children hit them. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import {
  attach,
  status,
  type AddedProbe,
  type EventSummary,
  type Session,
} from '../../src/index.ts';
import { isLong } from '../harness/features.ts';
import { Random } from '../harness/random.ts';
import type { Target } from '../harness/target.ts';
import { assertExact, countsOf, difference, leavingClean, Reading } from './jump-support.ts';
import {
  hitsAt,
  NO_ROOM,
  runsOf,
  startMethods,
  stepMethods,
  surePlaces,
  tryCount,
  unlessRefused,
  type Place,
} from './methods-support.ts';

const METHODS = ['jump', 'nop', 'pun', 'short-jump'];
/** How much is to be changed: until there were so many, or the time is up and there were enough, of every kind. */
const EXTENT = isLong()
  ? { changes: 10_000, milliseconds: Number.POSITIVE_INFINITY, fewest: 10_000 }
  : { changes: 10_000, milliseconds: 8000, fewest: 60 };
/** Changes of one session, from its beginning to its end. */
const VISIT = 40;

interface Inside {
  readonly probe: AddedProbe;
  readonly place: Place;
  /** Where somebody else counts, too. */
  readonly compared?: {
    /** Hits there when it began to be added, and when it was in. */
    readonly before: number;
    readonly since: number;
    /** What the session's event had counted before, when the place was probed already. */
    readonly earlier: number;
  };
}

class Changes {
  done = 0;
  refused = 0;
  compared = 0;
  readonly methods = new Set<string>();
  readonly #target: Target;
  readonly #random = new Random(6);
  readonly #watching: Session;
  readonly #watched: ReadonlySet<Place>;
  readonly #places: readonly Place[];
  readonly #deadline = performance.now() + EXTENT.milliseconds;

  constructor(target: Target, watching: Session, places: readonly Place[], watched: Place[]) {
    this.#target = target;
    this.#watching = watching;
    this.#places = places;
    this.#watched = new Set(watched);
  }

  get isOver(): boolean {
    if (this.done >= EXTENT.changes) return true;
    const hasAll = this.methods.size === METHODS.length && this.compared > 0;
    return this.done >= EXTENT.fewest && hasAll && performance.now() > this.#deadline;
  }

  /** A session that comes, makes its changes, and goes with what it still has in. */
  async visit(): Promise<void> {
    await using session = await attach({ pids: [this.#target.pid] }, { probes: [] });
    const reading = new Reading(session);
    const inside: Inside[] = [];
    for (let change = 0; change < VISIT && !this.isOver; change++, this.done++) {
      if (inside.length > 6 || (inside.length > 0 && this.#random.below(3) === 0)) {
        const [one] = inside.splice(this.#random.below(inside.length), 1);
        assert.ok(one !== undefined);
        await this.#remove(session, one);
      } else {
        const added = await this.#add(session);
        if (added !== undefined) inside.push(added);
      }
      if (this.#random.below(10) === 0) this.#target.send('fork 2 20');
    }
    const summary = await session.stop();
    await reading.done;
    assertExact(summary);
    const recorded = summary.events.reduce((sum, event) => sum + event.recorded, 0);
    assert.equal(reading.total, recorded);
  }

  async #add(session: Session): Promise<Inside | undefined> {
    const place = this.#random.pick(this.#places);
    const isCompared = this.#watched.has(place) && this.#random.below(3) === 0;
    if (!isCompared && this.#random.below(3) === 0) {
      // What records has longer programs, and stays in them longer.
      const adding = session.add(`${place.definition} a=%di:u64 b=%sp:u64`);
      const probe = await unlessRefused(adding, place, NO_ROOM);
      if (probe === undefined) return void this.refused++;
      return { probe, place };
    }
    const known = isCompared ? (await session.summary()).events : [];
    const before = isCompared ? await this.#hits(place) : 0;
    const probe = await tryCount(session, place, NO_ROOM);
    if (probe === undefined) return void this.refused++;
    for (const { method } of probe.sites) this.methods.add(method);
    if (!isCompared) return { probe, place };
    const since = await this.#hits(place);
    return { probe, place, compared: { before, since, earlier: hitsOf(known, probe) } };
  }

  /** What it counted lies between what another consumer of the place counted, taken just inside and just outside. */
  async #remove(session: Session, { probe, place, compared }: Inside): Promise<void> {
    if (compared === undefined) return session.remove(probe);
    const least = (await this.#hits(place)) - compared.since;
    await session.remove(probe);
    const most = (await this.#hits(place)) - compared.before;
    const hits = hitsOf((await session.summary()).events, probe) - compared.earlier;
    assert.ok(least <= hits && hits <= most, `${place.definition}: ${least} ≤ ${hits} ≤ ${most}`);
    this.compared++;
  }

  async #hits(place: Place): Promise<number> {
    const [hits] = await hitsAt(this.#watching, [place]);
    return hits ?? 0;
  }
}

/** Hits of a probe's event, which goes on where the session had one of the place before. */
function hitsOf(events: readonly EventSummary[], { sites }: AddedProbe): number {
  return events.find(({ event }) => event === sites[0]?.event)?.hits ?? 0;
}

test(
  '8 threads, a timer and children hit what sessions put in and take out',
  { timeout: 7_200_000 },
  async (context) => {
    const places = surePlaces();
    const watched = places.filter((_, at) => at % 3 === 0);
    await using target = await startMethods(8, 5000);
    await leavingClean(target, async () => {
      await using watching = await attach({ pids: [target.pid] }, { probes: [] });
      for (const place of watched)
        assert.ok((await tryCount(watching, place, /never/)) !== undefined);
      const start = await stepMethods(target, 1);
      const first = await hitsAt(watching, watched);
      target.send('run');
      await target.waitForLine('running');
      const changes = new Changes(target, watching, places, watched);
      const visits = async (): Promise<void> => {
        while (!changes.isOver) await changes.visit();
      };
      await Promise.all([visits(), visits()]);
      target.send('pause');
      const paused = await target.waitForLine(/^(paused|bad)/, 60_000);
      assert.match(paused, /^paused/);
      const calls = difference(start, countsOf(paused));
      const last = await hitsAt(watching, watched);
      watched.forEach((place, at) => {
        assert.equal((last[at] ?? 0) - (first[at] ?? 0), runsOf(place, calls), place.definition);
      });
      const [held] = await status([target.pid]);
      assert.equal(held?.sites.filter(({ state }) => state === 'live').length, watched.length);
      assertExact(await watching.stop());
      const { done, refused, compared, methods } = changes;
      const forked = target.lines.filter((line) => line === 'forked').length;
      context.diagnostic(
        `${done} changes (${refused} refused), ${compared} compared, ${forked} × 2 children`,
      );
      assert.deepEqual([...methods].toSorted(), METHODS);
      assert.ok(compared > 0 && forked > 0 && refused * 4 < done);
    });
  },
);
