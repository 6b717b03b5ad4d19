/**
 * `npm test`: everything, on a Debian or Ubuntu that has Node and nothing else.
 *
 *   npm test -- [--unit | --system] [--long] [FILTER…]
 *
 * Provides the packages that tests need, compiles, checks, runs the unit tests and then the system
 * tests; as root the system tests run again under an unprivileged uid, on a readable copy. FILTER is
 * part of a test file's path; with one, or with --unit or --system, the checks are left out.
 * --long runs the exhaustive forms. The last line counts all halves.
 */

import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { mountTracefs, provide } from './debian.mjs';
import { readableCopy } from './unprivileged.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const minute = 60_000;

const { values: options, positionals: filters } = parseArgs({
  allowPositionals: true,
  options: {
    unit: { type: 'boolean', default: false },
    system: { type: 'boolean', default: false },
    long: { type: 'boolean', default: false },
    // For work on a tree in which somebody else compiles too.
    build: { type: 'string', default: 'build' },
  },
});
const everything = !options.unit && !options.system && filters.length === 0;

const work = mkdtempSync(join(tmpdir(), 'trapline-test-'));
const total = { passed: 0, failed: 0, skips: [] };

function testFiles(kind) {
  const folder = join(root, options.build, 'test', kind);
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.test.js'))
    .map((name) => join(folder, name))
    .filter((path) => filters.length === 0 || filters.some((filter) => path.includes(filter)))
    .toSorted();
}

/** A test file that is gone from the tree must not run on as an old compilation. */
function withoutStale(files) {
  return files.filter((path) => {
    const source = relative(join(root, options.build), path).replace(/\.js$/, '.ts');
    return existsSync(join(root, source));
  });
}

/** Runs one half in a process of its own and adds what it reports to the total. */
async function half(title, job, start) {
  if (job.files.length === 0) {
    console.log(`\n${title}: no test files`);
    return;
  }
  console.log(`\n${title}`);
  const path = join(start.folder, 'job.json');
  const report = join(start.folder, 'report.json');
  rmSync(report, { force: true });
  writeFileSync(path, JSON.stringify({ ...job, build: options.build, report }), { mode: 0o644 });
  const child = spawn(start.node, [join(start.root, 'scripts/run-tests.mjs'), path], {
    cwd: start.root,
    stdio: ['ignore', 'inherit', 'inherit'],
    env: { ...start.env, ...(options.long ? { TRAPLINE_TEST_LONG: '1' } : {}) },
    ...start.identity,
  });
  const status = await new Promise((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('close', (code, signal) => resolve(signal ?? code));
  });
  if (!existsSync(report)) {
    total.failed += 1;
    console.log(`FAILED ${title}: the run ended early (${status})`);
    return;
  }
  const result = JSON.parse(readFileSync(report, 'utf8'));
  total.passed += result.passed;
  total.failed += result.failed;
  total.skips.push(...result.skips);
}

function must(title, command, ...args) {
  const started = Date.now();
  const { status } = spawnSync(command, args, { cwd: root, stdio: 'inherit' });
  const seconds = ((Date.now() - started) / 1000).toFixed(1);
  console.log(`${status === 0 ? 'ok    ' : 'FAILED'} ${title} (${seconds} s)`);
  if (status === 0) return true;
  total.failed += 1;
  return false;
}

function census() {
  const reasons = new Map();
  for (const { reason } of total.skips) reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
  if (reasons.size > 0) console.log('\nSkipped, by reason:');
  for (const [reason, count] of reasons) console.log(`  ${count} × ${reason}`);
}

async function systemHalves() {
  mountTracefs();
  const files = withoutStale(testFiles('system'));
  const job = { root, files, concurrency: 1, timeout: (options.long ? 120 : 6) * minute };
  const isRoot = process.getuid() === 0;
  await half(`System tests as ${isRoot ? 'root' : 'this user'}`, job, ours);
  if (!isRoot) {
    console.log('\nThe root half of the system tests was skipped: it needs root (sudo npm test).');
    return;
  }
  if (files.length === 0) return;
  const copy = readableCopy(root, options.build, join(tmpdir(), `trapline-fixtures-0`));
  try {
    const moved = files.map((path) => join(copy.root, relative(root, path)));
    await half('System tests without privilege', { ...job, root: copy.root, files: moved }, copy);
  } finally {
    rmSync(copy.folder, { recursive: true, force: true });
  }
}

const ours = { root, folder: work, node: process.execPath, env: process.env, identity: {} };

async function main() {
  provide();
  const tsc = join(root, 'node_modules/typescript/bin/tsc');
  if (!must('compile', process.execPath, tsc, '-p', 'tsconfig.json', '--outDir', options.build))
    return;
  if (everything) must('checks', process.execPath, 'scripts/check.mjs');
  if (!options.system) {
    const files = withoutStale(testFiles('unit'));
    const job = {
      root,
      files,
      concurrency: availableParallelism(),
      timeout: (options.long ? 120 : 2) * minute,
    };
    await half('Unit tests', job, ours);
  }
  if (!options.unit) await systemHalves();
  census();
}

try {
  await main();
} finally {
  rmSync(work, { recursive: true, force: true });
  if (total.failed + total.passed === 0) total.failed = 1; // a filter that matches nothing
  console.log(`\n${total.passed} passed, ${total.failed} failed, ${total.skips.length} skipped`);
  process.exitCode = total.failed === 0 ? 0 : 1;
}
