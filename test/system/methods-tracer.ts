/**
 * A session on the fixture `methods`, to be killed on its way: sites of all methods that lie over each other come,
 * one after the other and together, change what others rest on, and go. Argument: the target's process id.
 */

import assert from 'node:assert/strict';

import { attach } from '../../src/index.ts';
import { addCount, NO_ROOM, placeOf, surePlaces, tryCount } from './methods-support.ts';

const all = surePlaces();
const together = all.filter((_, at) => at % 2 === 1);
const probes = together.map(({ definition }) => ({ definition, action: 'count' as const }));
await using session = await attach({ pids: [Number(process.argv[2])] }, { probes });
// A pun whose rest gets a probe, and one whose rest loses it.
const pun = await addCount(session, placeOf('m_pun_three', 0));
const carrier = await tryCount(session, placeOf('m_pun_three', 1), NO_ROOM);
if (carrier !== undefined) await session.remove(carrier);
await session.remove(pun);
for (const place of [placeOf('m_bytes', 0), placeOf('m_bytes', 2), placeOf('m_short', 0)]) {
  await session.remove(await addCount(session, place));
}
const { kept } = await session.stop();
assert.deepEqual(kept, []);
