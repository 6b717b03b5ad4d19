/**
 * `npm start`: with arguments, the command line; without, a first look: a real program, live, with a
 * summary. Takes a few seconds.
 */

import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const main = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));
const given = process.argv.slice(2);

/** The programs and their C library are in every Debian. */
const demonstration = [
  {
    title: 'The first calls of malloc in ls, with the size that was asked for:',
    words: ['trace', '-n', '12', 'malloc@libc.so.6 size=%di:u64', '--', 'ls', '/'],
  },
  {
    title: 'How often du calls the allocation functions of its C library:',
    words: [
      'trace',
      '--count',
      '*alloc@libc.so.6',
      'free@libc.so.6',
      '--',
      'du',
      '-sh',
      '/usr/bin',
    ],
  },
];

const ignore = () => {};

/** Runs the command line; resolves with how it ended. */
function run(words) {
  const child = spawn(process.execPath, [main, ...words], { stdio: 'inherit' });
  // The terminal's signals reach the child by themselves; others are passed on.
  const pass = (signal) => child.kill(signal);
  process.on('SIGINT', ignore);
  for (const signal of ['SIGTERM', 'SIGHUP']) process.on(signal, pass);
  return new Promise((resolve) => {
    child.once('exit', (status, signal) => {
      process.off('SIGINT', ignore);
      for (const name of ['SIGTERM', 'SIGHUP']) process.off(name, pass);
      resolve({ status, signal });
    });
  });
}

async function demonstrate() {
  for (const { title, words } of demonstration) {
    const line = words.map((word) => (/[^\w./-]/.test(word) ? `'${word}'` : word)).join(' ');
    console.error(`\n${title}\n$ trapline ${line}\n`);
    const end = await run(words);
    if (end.status !== 0) return end;
  }
  console.error('\nNext: npm start -- --help, npm start -- doctor, and README.md');
  return { status: 0, signal: null };
}

const { status, signal } = await (given.length > 0 ? run(given) : demonstrate());
if (signal === null) process.exitCode = status;
else process.kill(process.pid, signal);
