/** Programs that everybody has, at work that is the same each time. */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

import { findLibpython, type FeatureName } from '../harness/features.ts';
import { compileFixture, fixturePath, requireProgram } from '../harness/fixtures.ts';

/** A file of a workload, and which of its functions are probed. */
export interface Aim {
  /** `program`, or a library by the beginning of its name. */
  readonly file: string;
  /** Those that have names, by a glob; or all, by their places. */
  readonly functions: 'named' | 'all';
  /** In the long form only. */
  readonly isLong?: boolean;
}

/** A program and its work. */
export interface Workload {
  readonly name: string;
  readonly needs: readonly FeatureName[];
  /** The path of the program; asked for only where it is there. */
  readonly program: () => string;
  readonly args: readonly string[];
  readonly input?: string;
  /** What some of its instructions do depends on where its memory lies, which is elsewhere in each run. */
  readonly dependsOnAddresses?: boolean;
  /** Puts files into the folder where it works. */
  readonly prepare?: (folder: string) => void;
  /** Takes out what differs from run to run, of both outputs. */
  readonly mask?: (text: string) => string;
  /** What of it is probed. */
  readonly aims: readonly Aim[];
}

/** Text that is neither the same nor at random. */
const DATA = Buffer.from(
  Array.from({ length: 20_000 }, (_, at) => `${(at * 7919) % 1009} trapline ${at % 13}\n`).join(''),
);

const PYTHON_TESTS = ['test_list', 'test_dict', 'test_struct', 'test_re', 'test_string'];

/** What takes its time, how busy the machine is, and folders named at random. */
function maskTimes(text: string): string {
  return text
    .replaceAll(/^\d+:\d+:\d+ load avg: [\d.]+ /gm, '')
    .replaceAll(/\b\d+(?:\.\d+)? (?:ms|sec|min)\b.*$/gm, 'TIME')
    .replaceAll(/ -- \w+ passed in TIME$/gm, ''); // of a test that took half a minute
}

/** Tables, triggers, searches, windows, texts and boxes. */
export const sqlite: Workload = {
  name: 'sqlite3',
  needs: ['sqlite3'],
  program: () => requireProgram('sqlite3'),
  args: ['-batch', 'work.db'],
  input: readFileSync(fixturePath('everything.sql'), 'utf8'),
  aims: [
    { file: 'libsqlite3', functions: 'named' },
    { file: 'libc.so', functions: 'named', isLong: true },
    { file: 'program', functions: 'all', isLong: true },
    { file: 'libsqlite3', functions: 'all', isLong: true },
  ],
};

/** With fewer rows: the kernel takes its time for each hit. */
export const sqliteBrief: Workload = {
  ...sqlite,
  input: (sqlite.input ?? '').replace('i < 400', 'i < 30'),
};

/** A script; some of it in children. */
export const zsh: Workload = {
  name: 'zsh',
  needs: ['zsh'],
  program: () => requireProgram('zsh'),
  args: ['-f', fixturePath('everything.zsh')],
  aims: [
    { file: 'program', functions: 'named' },
    { file: 'libc.so', functions: 'named' },
    { file: 'program', functions: 'all', isLong: true },
  ],
};

/** The same without children: each function is called as often in every run. */
export const zshAlone: Workload = { ...zsh, args: [...zsh.args, 'alone'] };

/** A file is packed. */
export const gzip: Workload = {
  name: 'gzip',
  needs: [],
  program: () => requireProgram('gzip'),
  args: ['-9', '-n', '-v', 'data'],
  prepare: (folder) => writeFileSync(join(folder, 'data'), DATA, { mode: 0o644 }),
  aims: [
    { file: 'libc.so', functions: 'named', isLong: true },
    { file: 'program', functions: 'all' },
  ],
};

/** And unpacked. */
export const gunzip: Workload = {
  ...gzip,
  name: 'gunzip',
  args: ['-d', '-c', 'data.gz'],
  prepare: (folder) => writeFileSync(join(folder, 'data.gz'), gzipSync(DATA, { level: 6 })),
};

/** A key derived from a password, a cipher, base64. */
export const encrypt: Workload = {
  name: 'openssl enc',
  needs: ['openssl'],
  program: () => requireProgram('openssl'),
  args: 'enc -aes-256-cbc -pbkdf2 -iter 2000 -S 0011223344556677 -k secret -a -in data'.split(' '),
  prepare: (folder) => writeFileSync(join(folder, 'data'), DATA),
  aims: [
    { file: 'libcrypto', functions: 'named' },
    { file: 'program', functions: 'all', isLong: true },
    { file: 'libcrypto', functions: 'all', isLong: true },
  ],
};

/** A digest, as fast as it can until a timer says so: calls differ from run to run. */
export const speed: Workload = {
  name: 'openssl speed',
  needs: ['openssl'],
  program: () => requireProgram('openssl'),
  args: ['speed', '-seconds', '1', '-bytes', '1024', 'sha256'],
  mask: (text) => text.replaceAll(/[\d.]+/g, '0').replaceAll(/ +/g, ' '),
  aims: [{ file: 'libcrypto', functions: 'named', isLong: true }],
};

/** The release's own tests of some modules. */
export const python: Workload = {
  name: 'python3 -m test',
  needs: ['python3-testsuite'],
  program: () => '/usr/bin/python3',
  args: ['-m', 'test', ...PYTHON_TESTS],
  mask: maskTimes,
  aims: [
    { file: 'program', functions: 'named' },
    { file: 'libc.so', functions: 'named', isLong: true },
    { file: 'program', functions: 'all', isLong: true },
  ],
};

/** Json, expressions, packed numbers, texts: what does the same in each run, unlike python's own tests, which ask for the time. */
export const pythonAlone: Workload = {
  name: 'python3',
  needs: ['python3-testsuite'],
  program: () => '/usr/bin/python3',
  args: ['-S', fixturePath('everything.py')],
  // Its allocator goes by how an arena's start is aligned.
  dependsOnAddresses: true,
  aims: [],
};

/** Python's tests, in the library that has all of python. */
export const embedded: Workload = {
  ...python,
  name: 'libpython -m test',
  needs: ['python3-testsuite', 'libpython3'],
  program: () =>
    compileFixture({ sources: ['python-embedded.c'], libraries: [`-l:${findLibpython() ?? ''}`] }),
  aims: [
    { file: 'libpython3', functions: 'named' },
    { file: 'libpython3', functions: 'all', isLong: true },
  ],
};

/** What does the same in each run, in that library. */
export const embeddedAlone: Workload = {
  ...pythonAlone,
  name: 'libpython',
  needs: embedded.needs,
  program: embedded.program,
};

/** All of them. */
export const WORKLOADS: readonly Workload[] = [
  sqlite,
  zsh,
  gzip,
  gunzip,
  encrypt,
  python,
  embedded,
  speed,
];
