#!/usr/bin/env node
/** The command `trapline`. */

import { prepare } from '../index.ts';

// Before anything else is loaded: the tracer's thread starts while the words are parsed.
if (process.argv[2] === 'trace') prepare();

const { run } = await import('./run.ts');
// Everything has been written and let go by now: what is left of timers and pipes is not waited for.
process.exit(await run(process.argv.slice(2)));
