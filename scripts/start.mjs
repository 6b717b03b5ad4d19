/**
 * `npm start`: with arguments, the command line; without, a first look: the allocations of a real
 * program, live, with a summary.
 */

import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const main = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));
const given = process.argv.slice(2);
const first = ['trace', '-n', '20', 'malloc@libc.so.6 size=%di:u64', '--', 'ls', '-l', '/usr/bin'];
const args = given.length > 0 ? given : first;

if (given.length === 0) {
  const words = first.map((word) => (/[ $%*]/.test(word) ? `'${word}'` : word)).join(' ');
  console.error(`$ trapline ${words}\n`);
}
const child = spawn(process.execPath, [main, ...args], { stdio: 'inherit' });
// Ctrl-C in a terminal reaches the child by itself, and twice would be once too often. It ends, and we
// end as it did.
const byTerminal = process.stdin.isTTY ? ['SIGINT', 'SIGHUP'] : [];
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => byTerminal.includes(signal) || child.kill(signal));
}
child.once('exit', (status, signal) => {
  if (signal === null) {
    process.exitCode = status;
    return;
  }
  process.removeAllListeners(signal);
  process.kill(process.pid, signal);
});
