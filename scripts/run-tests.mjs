/**
 * Runs compiled test files as the current user and says what passed, failed and was skipped. A job of
 * `scripts/test.mjs`, which starts it once for each half of the suite (see there).
 *
 *   node scripts/run-tests.mjs JOB.json
 *
 * JOB.json: { root, files, concurrency, timeout (ms, of one file), report (a path to write) }.
 * Exit status: 0, or 1 when a test failed or a skip could not be justified.
 */

import { readFileSync, writeFileSync } from 'node:fs';
import { relative, resolve } from 'node:path';
import { run } from 'node:test';
import { pathToFileURL } from 'node:url';
import { inspect } from 'node:util';

const job = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const result = { passed: 0, failed: 0, skips: [] };
const perFile = new Map();

function nameOf(file) {
  return relative(job.root, file).replace(/^build[^/]*\/test\//, '');
}

function count(file, kind) {
  const counts = perFile.get(file) ?? { passed: 0, failed: 0, skipped: 0 };
  counts[kind] += 1;
  perFile.set(file, counts);
}

function fail(file, test, why) {
  result.failed += 1;
  count(file, 'failed');
  process.stdout.write(`\nFAILED ${nameOf(file)}: ${test}\n${why.replace(/^/gm, '  ')}\n\n`);
}

/** node:test reports the file itself as a test when it crashed, hung or holds no test. */
function isFile(event, file) {
  return event.nesting === 0 && resolve(event.name) === resolve(file);
}

function onPass(event) {
  if (event.details?.type === 'suite') return;
  const file = event.file ?? event.name;
  if (event.skip !== undefined && event.skip !== false) {
    result.skips.push({ file: nameOf(file), test: event.name, reason: String(event.skip) });
    count(file, 'skipped');
  } else if (event.todo !== undefined && event.todo !== false) {
    fail(file, event.name, 'a test that is not written yet is not a test');
  } else if (isFile(event, file)) {
    fail(file, event.name, 'the file holds no test');
  } else {
    result.passed += 1;
    count(file, 'passed');
  }
}

function onFail(event) {
  const error = event.details?.error;
  // A parent that failed because of a test in it: that one was counted already.
  if (error?.failureType === 'subtestsFailed') return;
  const cause = error?.cause ?? error;
  const text = typeof cause === 'string' ? cause : (cause?.stack ?? inspect(cause));
  fail(event.file ?? event.name, event.name, text);
}

/** A skip is justified when its reason has the fixed form and the feature is really missing. */
async function unjustified(skips) {
  if (skips.length === 0) return [];
  const path = pathToFileURL(resolve(job.root, job.build, 'test/harness/features.js'));
  const { feature } = await import(path);
  const wrong = [];
  for (const skip of skips) {
    if (skip.reason.startsWith('long form only')) {
      if (process.env.TRAPLINE_TEST_LONG === '1')
        wrong.push({ ...skip, why: 'this is the long form' });
      continue;
    }
    const name = /^missing feature: (\S+) \(/.exec(skip.reason)?.[1];
    if (name === undefined) wrong.push({ ...skip, why: 'the reason names no feature' });
    else if (feature(name).present) wrong.push({ ...skip, why: `${name} is there` });
  }
  return wrong;
}

function report(file, counts) {
  const skipped = counts.skipped === 0 ? '' : `, ${counts.skipped} skipped`;
  const word = counts.failed === 0 ? 'ok    ' : 'FAILED';
  process.stdout.write(`${word} ${nameOf(file)}: ${counts.passed} passed${skipped}\n`);
}

async function main() {
  const stream = run({
    files: job.files,
    concurrency: job.concurrency,
    timeout: job.timeout,
  });
  stream.on('test:pass', onPass);
  stream.on('test:fail', onFail);
  stream.on('test:stderr', ({ message }) => process.stderr.write(message));
  stream.on('test:stdout', ({ message }) => process.stdout.write(message));
  // The stream has to be read to its end, or the run stops when its buffer is full.
  for await (const event of stream) void event;
  for (const [file, counts] of perFile) report(file, counts);
  for (const skip of await unjustified(result.skips)) {
    result.failed += 1;
    process.stdout.write(
      `FAILED ${skip.file}: ${skip.test}: skipped (${skip.reason}), but ${skip.why}\n`,
    );
  }
  writeFileSync(job.report, JSON.stringify(result));
  process.exitCode = result.failed === 0 ? 0 : 1;
}

await main();
