/** Every function of real programs makes records: a ring that is full only misses, and each hit is accounted for. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { isLong, skipUnless } from '../harness/features.ts';
import { Stage, totalOf } from './everything-support.ts';
import { gunzip, sqlite, zsh } from './everything-workloads.ts';

const RING_BYTES = 256 << 10;
/** No record is smaller: its header, with the time. */
const RECORD_BYTES = 16;

for (const readsLate of [false, true]) {
  const when = readsLate ? 'when it has ended' : 'while it works';
  for (const [workload, file] of [
    [sqlite, 'libsqlite3'],
    [zsh, 'program'],
    [gunzip, 'libc.so'],
  ] as const) {
    test(`${workload.name}: records of every function of ${file}, read ${when}`, (context) => {
      if (workload === gunzip && !isLong()) return context.skip('long form only');
      if (skipUnless(context, ...workload.needs)) return;
      using stage = new Stage(workload);
      const probes = [{ definition: `*@'${stage.file(file)}'` }];
      const traced = stage.trace({ probes, ringBytes: RING_BYTES, readsLate });
      let recorded = 0;
      for (const place of traced.places) {
        assert.equal(place.hits, place.recorded + place.missed, place.name);
        recorded += place.recorded;
      }
      assert.equal(traced.events, recorded);
      assert.ok(recorded > 100, String(recorded));
      const hits = totalOf(traced);
      // One ring holds what one task had; children of a shell have their own.
      if (workload !== sqlite || !readsLate) return;
      assert.ok(hits * RECORD_BYTES > RING_BYTES, String(hits));
      assert.ok(recorded < hits, `${recorded} of ${hits}`);
    });
  }
}
