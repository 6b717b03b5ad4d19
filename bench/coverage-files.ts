/** The programs and libraries whose places are counted: a Debian base, and the largest of what people run on it. */

import { spawnSync } from 'node:child_process';
import { closeSync, openSync, readSync, statSync } from 'node:fs';

/** Beside the packages that Debian calls essential or required. Those that are not installed are left out. */
const PACKAGES: readonly string[] = [
  'nodejs',
  'python3.11-minimal',
  'libpython3.11-stdlib',
  'sqlite3',
  'libsqlite3-0',
  'openssl',
  'libssl3',
  'postgresql-15',
];

/** Offsets in an ELF header, and what stands there (elf(5)). */
const HEADER_BYTES = 20;
const ELF64_LITTLE = Buffer.from('\x7fELF\x02\x01');
const TYPE = { at: 16, executable: 2, shared: 3 };
const MACHINE = { at: 18, x86_64: 62 };

/** All of them, each once, the largest first. @throws Error where there is no dpkg. */
export function baseFiles(): string[] {
  const lines = dpkg('dpkg-query', ['-W', '-f', '${Package} ${Essential} ${Priority}\\n']);
  const base = lines.map((line) => line.split(' ')).filter(isBase);
  const names = [...base.map(([name = '']) => name), ...PACKAGES];
  const installed = new Set(lines.map((line) => line.split(' ')[0]));
  const files = new Map<string, { path: string; bytes: number }>();
  for (const path of dpkg('dpkg', ['-L', ...names.filter((name) => installed.has(name))])) {
    const status = statSync(path, { throwIfNoEntry: false });
    if (status?.isFile() !== true || !isProgram(path)) continue;
    // Links of both kinds, and /bin, which is /usr/bin.
    files.set(`${status.dev}:${status.ino}`, { path, bytes: status.size });
  }
  return [...files.values()].sort((a, b) => b.bytes - a.bytes).map(({ path }) => path);
}

function isBase([, essential, priority]: readonly string[]): boolean {
  return essential === 'yes' || priority === 'required';
}

function dpkg(program: string, parameters: readonly string[]): string[] {
  const { stdout, error } = spawnSync(program, parameters, {
    encoding: 'utf8',
    maxBuffer: 64 << 20,
  });
  if (error !== undefined) throw new Error(`what Debian has is not known: ${error.message}`);
  return stdout.split('\n').filter((line) => line !== '');
}

/** Whether a file is a program or a library for this processor. */
function isProgram(path: string): boolean {
  const header = Buffer.alloc(HEADER_BYTES);
  const file = openSync(path, 'r');
  try {
    if (readSync(file, header) < HEADER_BYTES) return false;
  } finally {
    closeSync(file);
  }
  const type = header.readUInt16LE(TYPE.at);
  return (
    header.subarray(0, ELF64_LITTLE.byteLength).equals(ELF64_LITTLE) &&
    (type === TYPE.executable || type === TYPE.shared) &&
    header.readUInt16LE(MACHINE.at) === MACHINE.x86_64
  );
}
