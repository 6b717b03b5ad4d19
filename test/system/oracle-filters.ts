/** Filters for the oracle: every operator on every type, texts, globs, the task, and how terms are joined. */

/** A filter with what it looks at. */
export interface OracleFilter {
  /** Arguments that its terms name, without `n`, which each event has. */
  readonly words: string;
  readonly filter: string;
  /** Bytes from the case's pointer on that must be there for its terms to mean anything. */
  readonly needs: number;
  /** Whether it looks at the text there. */
  readonly isText: boolean;
}

/** What is needed behind a pointer that no case has. */
export const NOWHERE: number = 1 << 20;

const OPERATORS = ['==', '!=', '<', '<=', '>', '>=', '&'] as const;

/** A type at the case's pointer, with operands: some that occur there, some at the edges. */
const MEMORY: readonly (readonly [type: string, bytes: number, operands: readonly string[]])[] = [
  ['u8', 1, ['0', '104', '128', '255']],
  ['s8', 1, ['0', '-1', '104', '-128', '127']],
  ['x8', 1, ['0x68', '0x80']],
  ['char', 1, ['104', '200']],
  ['u16', 2, ['0x6568', '0', '65535']],
  ['s16', 2, ['0x6568', '-1', '-30000']],
  ['x16', 2, ['0x6568']],
  ['u32', 4, ['0x6c6c6568', '0x80000000']],
  ['s32', 4, ['0x6c6c6568', '-1', '-2147483648']],
  ['x32', 4, ['0xffffffff']],
  ['u64', 8, ['0x8000000000000000', '0']],
  ['s64', 8, ['0', '-1', '0x123456789abcdef', '-9223372036854775808']],
  ['x64', 8, ['0x7fffffffffffffff']],
  ['b3@2/8', 1, ['2', '7']],
  ['b12@3/16', 2, ['3245', '100']],
  ['b40@20/64', 8, ['0x6000000000']],
  ['u8[1]', 1, ['104']],
  ['u8[2]', 2, ['0x6568']],
  ['s8[4]', 4, ['0x6c6c6568', '-5']],
  ['x16[4]', 8, ['0x7000000000000000']],
  ['s32[2]', 8, ['0', '-1']],
];

/** The same in every case; the other side of each comparison is the edge of the type. */
const REGISTERS: readonly (readonly [body: string, operands: readonly string[]])[] = [
  ['%cx:s64', ['-2', '0', '1', '-3']],
  ['%cx:u64', ['0xfffffffffffffffe', '1']],
  ['%cx:s8', ['-2', '-1']],
  ['%cx:u8', ['254', '255']],
  ['%r9:u32', ['0x84858687']],
  ['%r9:s32', ['-2071624057']],
  ['%dx:u32', ['0', '7', '20']],
  ['%dx:s16', ['-1', '13']],
  ['%si:u64', ['0', '0x7fffffffffff']],
  ['%si:s64', ['0', '1']],
  ['%dx:b3@1/32', ['3', '6']],
  ['\\7:u8', ['7', '3']],
  ['$stack7:s64', ['-7']],
];

const TEXTS: readonly string[] = [
  '== "hello"',
  "== 'hello'",
  '!= "hello"',
  '== ""',
  '!= ""',
  '== "hell"',
  '== "hello2"',
  '== "/etc/passwd"',
  '~ "hello"',
  '~ "*"',
  '~ "h*"',
  '~ "*o"',
  '~ "*ell*"',
  '~ "h*o"',
  '~ "?ello"',
  '~ "h?l?o"',
  '~ "[a-h]ello"',
  '~ "[!a-h]*"',
  '~ "*/*/*"',
  '~ "/*"',
  '~ "*sswd"',
  '~ "!hello"',
  '~ "!*o"',
  '~ "*[0-9]*"',
  '~ "*,*:*"',
  '~ "*moon*"',
  '~ "a\\*b\\?*"',
  '~ "a*b?[[]c]"',
  '~ "*\\""'.replace('\\"', "'"),
  '~ "\\/etc*"',
  '~ "?"',
  '~ ""',
  '~ "a*z*a*z*64*"',
  '~ "*more of them"',
  '~ "*\u00e9*"',
];

const JOINED: readonly string[] = [
  'n > 3 && n < 20',
  'n < 3 || n > 30',
  '!(n > 3)',
  '!(n > 3 && n < 20)',
  '!(n < 3 || n == 9)',
  '!!(n == 4)',
  'n == 1 || n == 2 && n == 3',
  '(n == 1 || n == 2) && n == 2',
  'n & 1 && n & 2',
  'n & 1 || n & 2 && !(n & 4)',
  '((n == 5))',
  '!(!(n == 5) && !(n == 6))',
  'n != 1 && n != 2 && n != 3 && n != 4 || n == 3',
  ' n==1||n==2 ',
  '! (n == 1)',
];

const COMMON: readonly string[] = [
  'common_pid == {pid}',
  'common_pid != {pid}',
  'common_pid > 0',
  'common_pid & 0',
  'comm == "oracle"',
  'comm != "oracle"',
  'COMM ~ "ora*"',
  'comm ~ "*z"',
  'cpu == 0',
  'CPU == 0',
  'common_cpu != 0',
  'cpu < 4096',
  'cpu > -1',
  'cpu == -1',
  'cpu <= 4294967295',
  '__probe_ip == {place}',
  '__probe_ip != {place}',
  '__probe_ip > 0xffff',
];

/** Every filter, in an order in which neighbours differ. */
export function allFilters(pid: number): OracleFilter[] {
  const all: OracleFilter[] = [
    ...MEMORY.flatMap(([type, bytes, operands]) =>
      withOperators(operands).map((comparison) =>
        made(`f=+0(%si):${type}`, `f ${comparison}`, bytes),
      ),
    ),
    ...REGISTERS.flatMap(([body, operands]) =>
      withOperators(operands).map((comparison) => made(`f=${body}`, `f ${comparison}`)),
    ),
    ...TEXTS.flatMap((comparison) => [
      made('f=+0(%si):string', `f ${comparison}`, 1, true),
      made('f=+24(%di):string[2]', `f ${comparison}`, 1, true),
    ]),
    ...TEXTS.slice(0, 6).map((comparison) =>
      made('f=$comm', `f ${comparison.replace('hello', 'oracle')}`),
    ),
    ...JOINED.map((filter) => made('', filter)),
    ...JOINED.map((filter) => made('f=+0(%si):u8', filter.replace(/\bn\b/, 'f'), 1)),
    ...COMMON.map((filter) => made('', filter.replaceAll('{pid}', String(pid)))),
    made('f=+0(%si):u8 g=+0(%si):string', 'f > 100 && g ~ "h*"', 1, true),
    made('f=+0(%si):u8 g=+0(%si):string', 'f > 100 || g != "hello" || n == 2', 1, true),
    made('f=+0(+0(%di)):s16', 'f < 0', 2),
    made('f=+0(+24(+8(%di))):string', 'f ~ "sec*"'),
    made('f=+24(+8(%di)):string[2]', 'f == "first"'),
    // No case has a pointer there.
    made('f=+0(+0(+0(%si))):u64', 'f != 12345678', NOWHERE),
    made('f=+8(+0(+8(%si))):s32', 'f < 1', NOWHERE),
    made('f=+60(%di):s32', 'f == -70000'),
    made('f=+58(%di):s16 g=+57(%di):u8', 'f == -300 && g == 254 && n > 10'),
  ];
  return Array.from({ length: 7 }, (_, first) => all.filter((__, at) => at % 7 === first)).flat();
}

function made(words: string, filter: string, needs = 0, isText = false): OracleFilter {
  return { words, filter, needs, isText };
}

function withOperators(operands: readonly string[]): string[] {
  return operands.flatMap((operand) => OPERATORS.map((operator) => `${operator} ${operand}`));
}
