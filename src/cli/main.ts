#!/usr/bin/env node
/** The command `trapline`. */

import { run } from './run.ts';

// Everything has been written and let go by now: what is left of timers and pipes is not waited for.
process.exit(await run(process.argv.slice(2)));
