import assert from 'node:assert/strict';
import { pbkdf2 } from 'node:crypto';
import { EventEmitter, once } from 'node:events';
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';

import type { ChangedSession } from '../../../src/cli/probe-change.ts';
import { ProbeFile } from '../../../src/cli/probe-file.ts';
import { PLAIN } from '../../../src/screen/colour.ts';

/** Takes every probe, and tells when it has so many. */
function sessionOf(): ChangedSession & { has: (count: number) => Promise<void> } {
  const probes: { definition: string }[] = [];
  const changes = new EventEmitter();
  const session = {
    probes,
    add: async ({ definition }: { definition: string }) => {
      probes.push({ definition });
      changes.emit('change');
    },
    remove: async (probe: { definition: string }) => {
      probes.splice(probes.indexOf(probe), 1);
      changes.emit('change');
    },
    has: async (count: number) => {
      while (probes.length !== count) await once(changes, 'change');
    },
  };
  // Definitions are all that is looked at.
  return session as unknown as ReturnType<typeof sessionOf>;
}

async function withFile(
  act: (path: string, session: ReturnType<typeof sessionOf>, lines: string[]) => Promise<void>,
): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'trapline-probes-'));
  const path = join(folder, 'some.probes');
  writeFileSync(path, '# none\n');
  const session = sessionOf();
  const told: string[] = [];
  // Following a file keeps no program alive.
  const alive = setInterval(() => undefined, 1000);
  try {
    using file = new ProbeFile(session, {
      path,
      lines: [],
      others: [],
      requestOf: (line) => line,
      messages: { lines: (lines) => told.push(...lines) },
      paint: PLAIN,
      isQuiet: false,
    });
    await file.settled;
    await act(path, session, told);
  } finally {
    clearInterval(alive);
    rmSync(folder, { recursive: true });
  }
}

test('a change right after it was read is seen, however busy the threads that read files are', async () => {
  // More than there are, each for some tenths of a second.
  const busy = Array.from({ length: 8 }, async () =>
    promisify(pbkdf2)('a', 'b', 400_000, 64, 'sha512'),
  );
  await withFile(async (path, session) => {
    writeFileSync(path, 'one@some\n');
    await Promise.all(busy);
    await session.has(1);
    writeFileSync(path, 'one@some\ntwo@some\n');
    await session.has(2);
  });
});

test('another file at its path is read, one that is gone is spoken of and changes nothing', async () => {
  await withFile(async (path, session, told) => {
    writeFileSync(`${path}.new`, 'one@some\n');
    renameSync(`${path}.new`, path);
    await session.has(1);
    rmSync(path);
    while (!told.some((line) => line.includes('ENOENT'))) {
      await new Promise((resolve) => void setImmediate(resolve));
    }
    writeFileSync(path, '# none\n');
    await session.has(0);
    assert.match(told.join('\n'), /1 added, 0 removed/);
  });
});
