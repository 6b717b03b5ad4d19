/** What the tests need from a Debian or Ubuntu, and getting it. */

import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readlinkSync } from 'node:fs';
import { basename, delimiter, join } from 'node:path';

/** [what is looked for: a program or an absolute path, the package that has it] */
const needs = [
  ['gcc', 'gcc'],
  ['/usr/include/stdio.h', 'libc6-dev'],
  ['g++', 'g++'],
  ['clang', 'clang'],
  ['objdump', 'binutils'],
  ['zsh', 'zsh'],
  ['python3', 'python3'],
  ['sqlite3', 'sqlite3'],
  ['/usr/include/sqlite3.h', 'libsqlite3-dev'],
  ['openssl', 'openssl'],
  ['redis-server', 'redis-server'],
  ['go', 'golang-go'],
  ['rustc', 'rustc'],
  ['xz', 'xz-utils'],
  ['dwz', 'dwz'],
  ['eu-readelf', 'elfutils'],
  ['musl-gcc', 'musl-tools'],
];

/** What goes with the release's python, whose version is in the names. */
function systemPython() {
  const link = '/usr/bin/python3';
  if (!existsSync(link)) return [];
  const python = basename(readlinkSync(link));
  return [
    [`/usr/lib/${python}/test/test_list.py`, `lib${python}-testsuite`],
    [`/usr/lib/x86_64-linux-gnu/lib${python}.so.1.0`, `lib${python}`],
  ];
}

function isThere(what) {
  if (what.startsWith('/')) return existsSync(what);
  return (process.env.PATH ?? '').split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, what), constants.X_OK);
      return true;
    } catch {
      return false; // not in this folder
    }
  });
}

function apt(...args) {
  return spawnSync('apt-get', args, {
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    stdio: ['ignore', 'ignore', 'pipe'],
    encoding: 'utf8',
  });
}

/**
 * Installs what is missing when we are root and apt-get is there; else names it. Never fails: tests
 * that lack something skip, and the census names them.
 */
export function provide() {
  get(needs);
  // Not together: which python this is can only be told once it is there.
  get(systemPython());
}

function get(wanted) {
  const missing = wanted.filter(([what]) => !isThere(what)).map(([, name]) => name);
  if (missing.length === 0) return;
  const words = missing.join(' ');
  if (process.getuid() !== 0 || !isThere('apt-get')) {
    console.log(
      `Missing: ${words}. Tests that need them skip; get them: sudo apt-get install ${words}`,
    );
    return;
  }
  console.log(`Installing ${words} (apt-get) …`);
  apt('update', '-q');
  const install = ['install', '-q', '-y', '--no-install-recommends'];
  const all = apt(...install, ...missing);
  if (all.status === 0) return;
  // One package that this release doesn't have must not cost the others.
  for (const name of missing) {
    const one = apt(...install, name);
    if (one.status !== 0)
      console.log(`Not installed: ${name}: ${one.stderr.trim().split('\n').at(-1)}`);
  }
}

/** Mounts tracefs, which some root tests use as an oracle, where it isn't and may be. */
export function mountTracefs() {
  const folder = '/sys/kernel/tracing';
  if (process.getuid() !== 0 || existsSync(join(folder, 'trace')) || !existsSync(folder)) return;
  const mount = spawnSync('mount', ['-t', 'tracefs', 'tracefs', folder], { encoding: 'utf8' });
  if (mount.status !== 0) console.log(`No tracefs here: ${mount.stderr.trim()}`);
}
