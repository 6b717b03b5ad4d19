/**
 * `npm run check`: everything that can be said about the tree without running it. Each tool runs even
 * when an earlier one failed. `--update-api` rewrites `api/trapline.api.md` after a wanted change.
 */

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const updateApi = process.argv.includes('--update-api');

/** [what it is called, the tool in node_modules/.bin or a script of ours, its arguments] */
const checks = [
  ['types', 'tsc', '-p', 'tsconfig.json', '--noEmit'],
  ['lint', 'oxlint', '--type-aware'],
  ['format', 'oxfmt', '--check'],
  ['dead code', 'knip'],
];

/** These look at the built package, which there is once the public API exists. */
const packageChecks = [
  ['build', 'scripts/build.mjs'],
  ['package', 'publint', '--strict'],
  ['API report', 'api-extractor', 'run', ...(updateApi ? ['--local'] : [])],
];

function check([title, tool, ...args]) {
  const started = Date.now();
  const [program, ...before] = tool.endsWith('.mjs')
    ? [process.execPath, join(root, tool)]
    : [join(root, 'node_modules/.bin', tool)];
  const run = spawnSync(program, [...before, ...args], {
    cwd: root,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const seconds = ((Date.now() - started) / 1000).toFixed(1);
  const ok = run.status === 0;
  console.log(`${ok ? 'ok    ' : 'FAILED'} ${title} (${seconds} s)`);
  if (!ok) console.log(`${run.error?.message ?? ''}${run.stdout ?? ''}${run.stderr ?? ''}`);
  return ok;
}

// api-extractor makes neither of its folders.
for (const folder of ['api', 'build/api']) mkdirSync(join(root, folder), { recursive: true });

const all = [...checks, ...(existsSync(join(root, 'src/index.ts')) ? packageChecks : [])];
const failed = all.filter((one) => !check(one)).map(([title]) => title);
if (failed.length > 0) console.log(`Failed: ${failed.join(', ')}`);
process.exitCode = failed.length === 0 ? 0 : 1;
