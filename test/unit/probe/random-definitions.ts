/** Random definitions and mutated ones, millions of them: from a seed, by a generator of our own, since it is fast. */

import { Random } from '../../harness/random.ts';

const COMMANDS = [
  'p ',
  'p:g/e ',
  'p:e ',
  'p:a-b.e ',
  'r ',
  'r8:e ',
  'r4096 ',
  '-:e',
  '-:g/e',
  'p:g/ ',
];
const PLACES = [
  'f@x',
  'f+8@libc.so.6',
  "'ns::f(int, char*)'@x",
  '*alloc*@libc.so.6',
  'f%return@x',
  '/bin/sh:0x10',
  '/bin/sh:0x10(0x20)',
  '/a/b:0x10%return',
  '123:0x400000',
  '8:1:99:0x10',
  '"operator+"@a\\ b',
  'free@plt@zsh',
  '[a-c]?*@x',
];
const BASES = [
  '%di',
  '%rax',
  '%flags',
  '%r15',
  '$arg3',
  '$stack',
  '$stack0',
  '$stack268435455',
  '$comm',
  '$retval',
  '@0x10',
  '@+0x340',
  '@+-16',
  '\\7',
  '\\-0x8000000000000000',
  '\\0xffffffffffffffff',
  '\\"text"',
];
const OFFSETS = [
  '+0',
  '-8',
  '+u16',
  '-u1',
  '+0x7fffffffffffffff',
  '-0x8000000000000000',
  '+-4',
  '+010',
];
const TYPES = [
  ...['u', 's', 'x'].flatMap((kind) => [8, 16, 32, 64].map((width) => `${kind}${width}`)),
  ...'char symbol string ustring b1@0/8 b4@8/32 b64@0/64 b7@9/16'.split(' '),
];
const NAMES = ['a', 'b', '_c', 'arg2', 'common_pid', 'comm', 'n', 'size'];
const FIELDS = [
  'a',
  'b',
  '_c',
  'arg1',
  'arg2',
  'common_pid',
  'cpu',
  'comm',
  'COMM',
  '__probe_ip',
  'zz',
];
const OPERATORS = ['==', '!=', '<', '<=', '>', '>=', '&', '~', ' == ', ' ~ '];
const VALUES = [
  '0',
  '-1',
  '255',
  '0x80',
  '18446744073709551615',
  '"hello"',
  "'x'",
  '"*a?[b-d]"',
  '"!*"',
  '""',
];
const SCRAPS = [
  ...Array.from('@+:-%$()[]\'"\\ =*?08xu/,.!&|<>~\0\t\né'),
  '%di',
  '$arg1',
  '$comm',
  ':string',
  ':u8',
  '[4]',
  '+0(',
  ' if ',
  '%return',
  '&&',
  '||',
  '\u{1f600}',
  '99999999999999999999',
  'CPUS{1}',
];

/** A definition from the grammar's pieces: most are accepted, some are not. */
export function randomDefinition(random: Random): string {
  const command = random.below(3) === 0 ? random.pick(COMMANDS) : '';
  const count = random.below(20) === 0 ? random.below(140) : random.below(5);
  const place = command.startsWith('-') ? '' : random.pick(PLACES);
  const words = Array.from({ length: count }, (_, at) => ` ${argument(random, at)}`).join('');
  return `${command}${place}${words}${random.below(2) === 0 ? ` if ${filter(random, 0)}` : ''}`;
}

/** The same with up to four places edited. */
export function mutatedDefinition(random: Random): string {
  let text = randomDefinition(random);
  for (let edits = random.below(5); edits > 0; edits--) {
    const at = random.below(text.length + 1);
    const removed = random.below(4);
    const scrap =
      random.below(4) === 0 ? text.slice(at, at + random.below(12)) : random.pick(SCRAPS);
    text = text.slice(0, at) + scrap + text.slice(at + removed);
  }
  return text;
}

function argument(random: Random, at: number): string {
  // Where there are many, a name of the list would be used twice.
  const name =
    at < 3 && random.below(2) === 0 ? `${NAMES[(at * 3 + random.below(3)) % NAMES.length]}=` : '';
  let fetch = random.pick(BASES);
  const depth = random.below(12) === 0 ? random.below(17) : random.below(3);
  for (let level = 0; level < depth; level++) {
    fetch = `${depth > 4 ? '+0' : random.pick(OFFSETS)}(${fetch})`;
  }
  if (random.below(3) === 0) return name + fetch;
  const count = random.below(4) === 0 ? `[${random.below(68)}]` : '';
  return `${name}${fetch}:${random.pick(TYPES)}${count}`;
}

function filter(random: Random, depth: number): string {
  if (depth < 5 && random.below(3) === 0) {
    const inner = filter(random, depth + 1);
    switch (random.below(4)) {
      case 0:
        return `(${inner})`;
      case 1:
        return `!(${inner})`;
      case 2:
        return `${inner}&&${filter(random, depth + 1)}`;
      default:
        return `${inner} || ${filter(random, depth + 1)}`;
    }
  }
  return random.pick(FIELDS) + random.pick(OPERATORS) + random.pick(VALUES);
}
