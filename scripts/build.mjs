/**
 * `npm run build`: `dist/`, which is what is shipped and what `npm start` runs. Types are tsc's; the code is
 * bundled into few files, because loading the modules one by one takes each of the two threads
 * twice as long or more.
 */

import { spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { build } from 'esbuild';

const root = fileURLToPath(new URL('..', import.meta.url));

// Chunks are named by their content: those of the last build would stay.
rmSync(join(root, 'dist'), { recursive: true, force: true });

const types = spawnSync(join(root, 'node_modules/.bin/tsc'), ['-p', 'tsconfig.build.json'], {
  cwd: root,
  stdio: 'inherit',
});
if (types.status !== 0) process.exit(types.status ?? 1);

const { metafile } = await build({
  absWorkingDir: root,
  entryPoints: ['src/index.ts', 'src/cli/main.ts', 'src/session/tracer-worker.ts'],
  outbase: 'src',
  outdir: 'dist',
  // What two entries share is in one file, and what is imported when it is needed is in its own.
  splitting: true,
  // `new URL('./tracer-worker.js', import.meta.url)` holds in this folder: checked below.
  chunkNames: 'session/[name]-[hash]',
  bundle: true,
  format: 'esm',
  platform: 'node',
  target: 'node20.19',
  packages: 'external',
  sourcemap: true,
  metafile: true,
  logLevel: 'warning',
});

const home = Object.entries(metafile.outputs)
  .filter(([, { inputs }]) => 'src/session/tracer-client.ts' in inputs)
  .map(([file]) => file);
if (home.length !== 1 || !home[0].startsWith('dist/session/')) {
  throw new Error(
    `the tracer's thread is looked for from ${home.join(', ')}: not beside its entry`,
  );
}
