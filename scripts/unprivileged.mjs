/** A copy of the built tree that a user without privilege can read, and how to run as that user. */

import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
} from 'node:fs';
import { spawnSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

/** `nobody` and `nogroup`, the same numbers on every Debian. */
const nobody = 65534;

/** What tests import beyond the package's own dependencies. */
const testPackages = ['fast-check'];

/** The packages named and all that they need, as folders of node_modules. */
function withDependencies(root, names) {
  const found = new Set();
  const visit = (name, optional) => {
    const folder = join(root, 'node_modules', name);
    if (found.has(name) || (optional && !existsSync(folder))) return;
    found.add(name);
    const text = readFileSync(join(folder, 'package.json'), 'utf8');
    const { dependencies = {}, optionalDependencies = {} } = JSON.parse(text);
    for (const next of Object.keys(optionalDependencies)) visit(next, true);
    for (const next of Object.keys(dependencies)) visit(next, next in optionalDependencies);
  };
  for (const name of names) visit(name, false);
  return [...found];
}

/** Node as that user can execute it: itself, or a copy when it lies in a folder closed to others. */
function executableNode(folder) {
  const probe = spawnSync(process.execPath, ['--version'], { uid: nobody, gid: nobody });
  if (probe.status === 0) return process.execPath;
  const copy = join(folder, 'node');
  cpSync(process.execPath, copy, { dereference: true });
  chmodSync(copy, 0o755);
  return copy;
}

/** PATH without folders that the user can't enter, such as root's own. */
function openPath() {
  return (process.env.PATH ?? '')
    .split(':')
    .filter((folder) => folder !== '')
    .filter((folder) => {
      const look = spawnSync('/bin/sh', ['-c', 'cd "$0"', folder], { uid: nobody, gid: nobody });
      return look.status === 0;
    })
    .join(':');
}

/**
 * Copies what the system tests need. Fixtures that root compiled go along, so that they aren't
 * compiled twice.
 * @returns what `half` in `scripts/test.mjs` starts; the caller removes `folder`.
 */
export function readableCopy(root, build, fixtures) {
  const folder = mkdtempSync(join(tmpdir(), 'trapline-nobody-'));
  const tree = join(folder, 'tree');
  const home = join(folder, 'home');
  const temporary = join(folder, 'tmp');
  for (const path of [tree, home, temporary]) mkdirSync(path);
  const { dependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const packages = withDependencies(root, [...Object.keys(dependencies), ...testPackages]);
  const parts = [build, 'package.json', 'scripts', 'test/fixtures'];
  for (const part of [...parts, ...packages.map((name) => join('node_modules', name))]) {
    mkdirSync(dirname(join(tree, part)), { recursive: true });
    cpSync(join(root, part), join(tree, part), { recursive: true });
  }
  const cache = join(temporary, `trapline-fixtures-${nobody}`);
  if (existsSync(fixtures)) cpSync(fixtures, cache, { recursive: true });
  spawnSync('chown', ['-R', `${nobody}:${nobody}`, folder]);
  spawnSync('chmod', ['-R', 'u+rwX', folder]);
  chownSync(folder, nobody, nobody);
  return {
    root: tree,
    folder,
    node: executableNode(folder),
    env: { ...process.env, PATH: openPath(), HOME: home, TMPDIR: temporary, USER: 'nobody' },
    identity: { uid: nobody, gid: nobody },
  };
}
