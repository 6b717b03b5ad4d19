/** Arguments for the oracle, made systematically: every fetch, every type, good and bad memory. */

import type { Case } from './oracle-support.ts';

/** Which memory an argument looks at. */
export type Reach =
  /** None, or what can always be read. */
  | 'always'
  /** What can never be read. */
  | 'never'
  /** From the case's pointer on. */
  | { readonly offset: number; readonly bytes: number }
  /** Texts, one of which may be that at the case's pointer. */
  | 'texts';

/** One argument without its name. */
export interface OracleArgument {
  readonly body: string;
  readonly reach: Reach;
  /** Bytes that it takes of the kernel's event, at most. */
  readonly room: number;
}

const WIDTHS = [8, 16, 32, 64] as const;
/** `symbol` is not the kernel's for user space. */
const INTEGERS = [
  ...['u', 's', 'x'].flatMap((kind) => WIDTHS.map((width) => `${kind}${width}`)),
  'char',
];
const REGISTERS = 'ax bx cx dx si di bp sp r8 r9 r10 r11 r12 r13 r14 r15 flags'.split(' ');
const BITS = WIDTHS.flatMap((size) =>
  [
    [1, 0],
    [1, size - 1],
    [3, 2],
    [size >> 1, size >> 2],
    [size - 1, 1],
    [size, 0],
  ].map(([width, offset]) => `b${width}@${offset}/${size}`),
);
/** Of the longest text of a case. */
const TEXT_ROOM = 260;

function bytesOf(type: string): number {
  const digits = /(\d+)$/.exec(type)?.[1];
  return digits === undefined ? 1 : Number(digits) / 8;
}

function made(body: string, reach: Reach = 'always', room = 8): OracleArgument {
  return { body, reach, room };
}

/** Registers, the stack and constants, in each type. */
function values(): OracleArgument[] {
  const fetches = [
    ...REGISTERS.map((name) => `%${name}`),
    '$stack',
    ...[1, 2, 3, 4, 5, 6, 7, 8].map((index) => `$stack${index}`),
    '\\0',
    '\\-1',
    '\\200',
    '\\0x7fffffffffffffff',
    '\\-0x8000000000000000',
    '\\0xfedcba9876543210',
  ];
  return [
    ...fetches.flatMap((fetch) => [fetch, ...INTEGERS.map((type) => `${fetch}:${type}`)]),
    ...['%r8', '%r9', '$stack7'].flatMap((fetch) => BITS.map((bits) => `${fetch}:${bits}`)),
    // The same for both: they are called by one instruction.
    '$stack0',
  ].map((body) => made(body));
}

/** Memory at the case's pointer and around it, through a register and through pointers. */
function memory(): OracleArgument[] {
  const offsets = [0, 1, 2, 3, 5, 8, 13, -1, -2, -3, -5, -8, 100];
  const ways: readonly (readonly [of: (offset: number) => string, offsets: readonly number[]])[] = [
    [(offset) => `${signed(offset)}(%si)`, offsets],
    [(offset) => `${signed(offset)}(+0(%di))`, [0, 1, -1, 8]],
    [(offset) => `${signed(offset)}($stack3)`, [0, 3]],
    [(offset) => `${signed(offset)}(+24(+8(+8(+8(%di)))))`, [0, 2]],
    [(offset) => `${offset < 0 ? '-' : '+'}u${Math.abs(offset)}(%si)`, [0, -8]],
  ];
  return ways.flatMap(([way, places]) =>
    places.flatMap((offset) => [
      made(way(offset), { offset, bytes: 8 }),
      ...[...INTEGERS, ...BITS.filter((_, at) => at % 5 === 0)].map((type) =>
        made(`${way(offset)}:${type}`, { offset, bytes: bytesOf(type) }),
      ),
    ]),
  );
}

function arrays(): OracleArgument[] {
  const types = [...INTEGERS, 'b3@2/8', 'b5@11/16', 'b20@4/32', 'b63@1/64'];
  return [1, 2, 3, 7, 64].flatMap((count) =>
    types.flatMap((type) => {
      const bytes = bytesOf(type) * count;
      // No case knows more than 512 bytes of itself.
      const offsets = bytes > 500 ? [0] : [0, 1, -4];
      return offsets.map((offset) =>
        made(`${signed(offset)}(%si):${type}[${count}]`, { offset, bytes }, bytes),
      );
    }),
  );
}

function deep(count: number): string {
  return `${'+8('.repeat(count)}%di${')'.repeat(count)}`;
}

/** What is the same in every case. */
function fixed(places: (name: string) => bigint): OracleArgument[] {
  const hex = (name: string, offset = 0): string =>
    `0x${(places(name) + BigInt(offset)).toString(16)}`;
  return [
    ...['s8', 'u8', 'x8', 'char'].flatMap((type) => [`+56(%di):${type}`, `+57(%di):${type}`]),
    ...['s16', 'u16', 'x16'].map((type) => `+58(%di):${type}`),
    ...['s32', 'u32', 'x32'].map((type) => `+60(%di):${type}`),
    ...['s64', 'u64', 'x64'].map((type) => `+64(%di):${type}`),
    ...[1, 2, 4, 8].flatMap((count) => [`+80(%di):char[${count}]`, `+80(%di):s8[${count}]`]),
    '+72(%di):u64[1]',
    '+0(+72(%di)):s64[4]',
    '+8(+72(%di)):x32[4]',
    ...[1, 2, 7, 13].map((count) => deep(count)),
    `@${hex('holder', 56)}:s8`,
    `@${hex('holder', 64)}:s64`,
    `@${hex('numbers')}:u64[4]`,
    `+0(@${hex('holder', 72)}):x64`,
    `+16(\\${hex('holder')}):u64`,
    ...BITS.map((bits) => `+16(%di):${bits}`),
  ].map((body) => made(body, 'always', 40));
}

/** The bytes of the program's code that it never runs under a probe. */
function ofFile(
  places: (name: string) => bigint,
  offset: (address: bigint) => number,
): OracleArgument[] {
  const at = offset(places('enter'));
  return [0, 1, 8, 40].flatMap((more) =>
    ['u8', 'x32', 'x64', 'u16[4]'].map((type) => made(`@+${at + more}:${type}`)),
  );
}

function never(): OracleArgument[] {
  return [
    '+0(\\0)',
    '+8(\\-9)',
    '@0x10:u32',
    '@0xffffffff81000000:u64',
    '@0x8000000000000000:s8',
    '-1(\\0):x16',
    '+0(+0(\\1)):u32',
    '+0(+0(%si)):u32',
    '+8(+0(%si)):s64',
    '+0(+8(+0(%si))):u8[4]',
    '+0(+40(%di)):u64',
    '+0(+0(+40(%di))):u8[4]',
    '+0(%r9)',
    '$stack100000000:u64',
  ].map((body) => made(body, 'never', 8));
}

/** Texts of at most 256 bytes. */
function texts(places: (name: string) => bigint): OracleArgument[] {
  const one = [
    '+0(%si):string',
    '+0(%si):ustring',
    '+u0(%si):string',
    '+1(%si):string',
    '-1(%si):string',
    '+0(+0(%di)):string',
    '+0(+24(+8(+8(+8(%di))))):string',
    '+0($stack3):string',
    '+0(+32(%di)):string',
    '+0(+40(%di)):string',
    '+0(\\16):string',
    '\\16:string',
    '+0(%r9):string',
    `@0x${(places('holder') + 56n).toString(16)}:string`,
    '$comm',
    '$COMM:string',
  ];
  const many = [1, 2, 3, 4].flatMap((count) => [
    `+24(%di):string[${count}]`,
    `+24(%di):ustring[${count}]`,
  ]);
  return [
    ...one.map((body) => made(body, 'texts', TEXT_ROOM)),
    ...many.map((body) => made(body, 'texts', TEXT_ROOM + 60)),
    // No case has pointers there.
    ...[1, 3].map((count) => made(`+0(%si):string[${count}]`, 'never', 4 * count)),
  ];
}

/** Texts whose neighbours matter to the kernel: it measures all before it reads the first. */
export const NEIGHBOURS: readonly (readonly OracleArgument[])[] = [
  [made('+0(%si):string', 'texts'), made('+0(+32(%di)):string', 'texts')],
  [made('+0(%si):string[1]', 'never'), made('+0(+32(%di)):string', 'texts')],
];

/** Every argument, in an order in which neighbours differ. */
export function allArguments(
  places: (name: string) => bigint,
  offset: (address: bigint) => number,
): OracleArgument[] {
  const all = [
    ...values(),
    ...memory(),
    ...arrays(),
    ...fixed(places),
    ...ofFile(places, offset),
    ...never(),
    ...texts(places),
  ];
  // A step that has no factor in common with the number of them visits each once.
  let step = Math.floor(all.length * 0.618);
  while (divisor(step, all.length) !== 1) step++;
  return all
    .map((_, at) => all[(at * step) % all.length] ?? all[0])
    .filter((one) => one !== undefined);
}

/** Divides arguments among events, within the kernel's limits of one. */
export function pack(all: readonly OracleArgument[]): OracleArgument[][] {
  // Two are the engine's own, and pointers on the way may be fetched besides.
  const most = { count: 80, pointers: 30, room: 2400 };
  const events: OracleArgument[][] = [[]];
  let room = 0;
  let pointers = 0;
  for (const one of all) {
    const nested = Math.max(0, one.body.split('(').length - 2);
    const last = events.at(-1) ?? [];
    if (
      last.length >= most.count ||
      room + one.room > most.room ||
      pointers + nested > most.pointers
    ) {
      events.push([one]);
      room = one.room;
      pointers = nested;
      continue;
    }
    last.push(one);
    room += one.room;
    pointers += nested;
  }
  return events;
}

/** Bytes that can be read of those that an argument looks at; undefined where that is not known before. */
export function readable({ reach }: OracleArgument, one: Case): number | undefined {
  if (reach === 'texts') return undefined;
  if (reach === 'always') return Number.POSITIVE_INFINITY;
  if (reach === 'never') return 0;
  if (reach.offset < -one.before) return 0;
  return Math.max(0, Math.min(reach.bytes, one.after - reach.offset));
}

/** Whether all can be read. */
export function isWhole(argument: OracleArgument, one: Case): boolean | undefined {
  const { reach } = argument;
  const bytes = readable(argument, one);
  if (bytes === undefined) return undefined;
  return typeof reach === 'object' ? bytes === reach.bytes : bytes > 0;
}

function signed(offset: number): string {
  return offset < 0 ? `${offset}` : `+${offset}`;
}

function divisor(a: number, b: number): number {
  return b === 0 ? a : divisor(b, a % b);
}
