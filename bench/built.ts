/** What is shipped and what users run: the bundles in `dist/`, which `npm run bench` builds first. */

import { fileURLToPath } from 'node:url';

/** From `build/bench/`, where this file is compiled to. */
const built = new URL('../../dist/', import.meta.url);

/** The command's entry. */
export const command: string = fileURLToPath(new URL('cli/main.js', built));

/** The library as it is shipped, in a fresh tracer's thread each time. Its types are those of the source. */
export async function library(): Promise<typeof import('../src/index.ts')> {
  // An import by a variable has no type of its own.
  return (await import(new URL('index.js', built).href)) as typeof import('../src/index.ts');
}
