import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { fileOffset } from '../../../src/base/brand.ts';
import { compileGlob } from '../../../src/base/glob.ts';
import {
  listDefinition,
  parseDefinition,
  parseLine,
  printDefinition,
} from '../../../src/probe/definition.ts';
import type { ProbeLocation } from '../../../src/probe/location.ts';
import type { Fetch, ProgramArgument } from '../../../src/probe/program.ts';
import { tokenize } from '../../../src/probe/tokens.ts';
import { REFUSALS } from '../../../src/probe/refusals.ts';
import { parseProbes } from '../../../src/session/probes/probe-list.ts';
import { definitions, marked, mutations, refusalOf, tree } from './support.ts';

const atFunction = (name: string, file: string, offset = 0, isGlob = false): ProbeLocation => ({
  kind: 'function',
  name,
  offset,
  isGlob,
  file,
});
const atOffset = (file: string, offset: number): ProbeLocation => ({
  kind: 'offset',
  file,
  offset: fileOffset(offset),
});

const LOCATIONS: readonly (readonly [text: string, location: ProbeLocation])[] = [
  ['zfree@zsh', atFunction('zfree', 'zsh')],
  ['  zfree@/bin/zsh\t', atFunction('zfree', '/bin/zsh')],
  ['malloc@libc.so.6', atFunction('malloc', 'libc.so.6')],
  ['SSL_read@libssl', atFunction('SSL_read', 'libssl')],
  ['zfree+8@zsh', atFunction('zfree', 'zsh', 8)],
  ['zfree+0x1F@zsh', atFunction('zfree', 'zsh', 31)],
  ['zfree+010@zsh', atFunction('zfree', 'zsh', 8)],
  ['zfree+0@zsh', atFunction('zfree', 'zsh', 0)],
  ['f@libstdc++.so.6', atFunction('f', 'libstdc++.so.6')],
  ['f+4@libstdc++.so.6', atFunction('f', 'libstdc++.so.6', 4)],
  ['memcpy@GLIBC_2.14@libc.so.6', atFunction('memcpy@GLIBC_2.14', 'libc.so.6')],
  ["'memcpy@GLIBC_2.14'@libc.so.6", atFunction('memcpy@GLIBC_2.14', 'libc.so.6')],
  ['memcpy@@GLIBC_2.14@libc.so.6', atFunction('memcpy@@GLIBC_2.14', 'libc.so.6')],
  ["'ns::f(int, char*)'@libx", atFunction('ns::f(int, char*)', 'libx')],
  ["'ns::f(int, char*)'+16@libx", atFunction('ns::f(int, char*)', 'libx', 16)],
  ['ns::f@libx', atFunction('ns::f', 'libx')],
  ['"operator+"@libfoo', atFunction('operator+', 'libfoo')],
  ['"operator+"+0x2@libfoo', atFunction('operator+', 'libfoo', 2)],
  ['operator\\+@libfoo', atFunction('operator+', 'libfoo')],
  ['\'operator"" _x\'@f', atFunction('operator"" _x', 'f')],
  ['"operator\\"\\" _x"@f', atFunction('operator"" _x', 'f')],
  ["'back\\slash'@f", atFunction('back\\slash', 'f')],
  ["ma'll'oc@f", atFunction('malloc', 'f')],
  ['main@"/tmp/my prog"', atFunction('main', '/tmp/my prog')],
  ["main@'/tmp/a@b:c'", atFunction('main', '/tmp/a@b:c')],
  ['*alloc*@libc.so.6', atFunction('*alloc*', 'libc.so.6', 0, true)],
  ["'operator[]'@f", atFunction('operator[]', 'f')],
  ["'a*'?@f", atFunction('a\\*?', 'f', 0, true)],
  ['/bin/zsh:0x1234', atOffset('/bin/zsh', 0x1234)],
  ['/bin/zsh:4660', atOffset('/bin/zsh', 4660)],
  ['zsh:0x0', atOffset('zsh', 0)],
  ['libstdc++.so.6:0x10', atOffset('libstdc++.so.6', 16)],
  ["'/tmp/a@b':0x10", atOffset('/tmp/a@b', 16)],
  ["'123':0x10", atOffset('123', 16)],
];

test('locations', () => {
  for (const [text, location] of LOCATIONS) {
    assert.deepEqual(parseDefinition(text), { location, arguments: [], text }, text);
    const again = parseDefinition(printDefinition({ location, arguments: [], text }));
    assert.deepEqual(again.location, location, text);
  }
});

test('every character of a path behind a command means itself', () => {
  for (const [path, offset] of [
    ["/opt/a'b", '0x10'],
    ['/opt/a"b', '16'],
    ['/opt/a\\b', '020'],
    ["./'a'", '0x10'],
    ["/opt/'a'/\\", '0x10'],
    ["/a'b@c%d:e", '0x10'],
    ["lib/a\\'", '0x10'],
  ] as const) {
    for (const command of ['p', 'p:g/e', 'r']) {
      const parsed = parseDefinition(`${command} ${path}:${offset}(0x20) %ax`);
      assert.deepEqual(parsed.location, atOffset(path, 16), path);
      assert.equal(parsed.reference, 0x20);
      const again = parseDefinition(printDefinition(parsed));
      assert.deepEqual(again.location, parsed.location, path);
      const listed = parseDefinition(listDefinition(parsed, { group: 'g', event: 'e' }));
      assert.deepEqual(listed.location, parsed.location, path);
    }
  }
  // What begins with a quote is quoted, and so is everything without a command.
  for (const text of ["p '/opt/a b':0x10", 'p:g/e "/opt/a b":0x10', "'/opt/a b':0x10"]) {
    assert.deepEqual(parseDefinition(text).location, atOffset('/opt/a b', 16));
  }
  assert.deepEqual(parseDefinition("/opt/'a:b':0x10").location, atOffset('/opt/a:b', 16));
  assert.equal(refusalOf("/opt/a'b:0x10").message, REFUSALS.quoteOpen);
});

test('a comment is no part of a definition', () => {
  for (const text of [
    'f@x %di a=%si:u8 if a > 1',
    "'a #b'@x",
    'f#0@x',
    "f@'x #'",
    'f@x \\"a#b" if arg1 == "a #b"',
    `f@x $comm if comm == 'a "#' && comm != " #"`,
    '-:g/e',
  ]) {
    const whole = parseLine(text);
    for (const comment of [' # it is so', '\t#', ' #"\'', '  #if a > 2']) {
      const parsed = parseLine(text + comment);
      assert.deepEqual({ ...parsed, text }, whole, text + comment);
      assert.equal(tokenize(text + comment).end, text.length);
    }
    assert.equal(tokenize(text).end, text.length);
  }
  const listed = parseProbes('# a\n f@x \\"a#b" # b\n\n\t#\n\'a #\'@x\n', 'file');
  assert.deepEqual(
    listed.map(({ definition }) => definition),
    ['f@x \\"a#b"', "'a #'@x"],
  );
});

test('a namespace may have the name of a command', () => {
  const spaces = fc.oneof(
    fc.constantFrom('p', 'r', '-'),
    fc.nat(9999).map((n) => `r${n}`),
  );
  const ends = fc.constantFrom('f', 'S::f', '*', 'f+8', 'e/f');
  fc.assert(
    fc.property(spaces, ends, fc.constantFrom('', 'p ', 'p:g/e '), (space, end, command) => {
      const text = `${command}${space}::${end}@nsp x=%ax`;
      const parsed = parseDefinition(text);
      assert.ok(parsed.location.kind === 'function');
      const [name = '', offset] = end.split('+');
      assert.equal(parsed.location.name, `${space}::${name}`);
      assert.equal(parsed.location.offset, Number(offset ?? 0));
      assert.equal(parsed.location.file, 'nsp');
      const again = parseDefinition(printDefinition(parsed));
      assert.deepEqual({ ...again, text }, parsed);
    }),
  );
});

test('a quoted character of a glob matches itself only', () => {
  const { location } = parseDefinition("'f(char*)'*@x");
  assert.ok(location.kind === 'function' && location.isGlob);
  const matches = compileGlob(location.name);
  assert.equal(matches('f(char*) const'), true);
  assert.equal(matches('f(char&) const'), false);
});

const register = (name: 'rdi' | 'rsi' | 'rsp' | 'rbp' | 'r9' | 'rip' | 'flags'): Fetch => ({
  kind: 'register',
  register: name,
});
const load = (base: Fetch, offset: bigint): Fetch => ({ kind: 'load', base, offset });

const ARGUMENTS: readonly (readonly [text: string, argument: ProgramArgument, printed: string])[] =
  [
    ['%di', { name: 'arg1', type: 'x64', fetch: register('rdi') }, 'arg1=%di'],
    ['%rdi', { name: 'arg1', type: 'x64', fetch: register('rdi') }, 'arg1=%di'],
    ['size=%di:u64', { name: 'size', type: 'u64', fetch: register('rdi') }, 'size=%di:u64'],
    ['%ip', { name: 'arg1', type: 'x64', fetch: register('rip') }, 'arg1=%ip'],
    ['%flags:x32', { name: 'arg1', type: 'x32', fetch: register('flags') }, 'arg1=%flags:x32'],
    ['$arg1', { name: 'arg1', type: 'x64', fetch: register('rdi') }, 'arg1=%di'],
    ['$arg2:s8', { name: 'arg1', type: 's8', fetch: register('rsi') }, 'arg1=%si:s8'],
    ['_=$arg6', { name: '_', type: 'x64', fetch: register('r9') }, '_=%r9'],
    ['$stack', { name: 'arg1', type: 'x64', fetch: register('rsp') }, 'arg1=%sp'],
    ['$stack2', { name: 'arg1', type: 'x64', fetch: { kind: 'stack', index: 2 } }, 'arg1=$stack2'],
    ['$comm', { name: 'arg1', type: 'string', fetch: { kind: 'comm' } }, 'arg1=$comm'],
    ['c=$comm:string', { name: 'c', type: 'string', fetch: { kind: 'comm' } }, 'c=$comm'],
    [
      '+8(%di):u32',
      { name: 'arg1', type: 'u32', fetch: load(register('rdi'), 8n) },
      'arg1=+8(%di):u32',
    ],
    ['-8(%bp)', { name: 'arg1', type: 'x64', fetch: load(register('rbp'), -8n) }, 'arg1=-8(%bp)'],
    [
      '+u0x10(%di)',
      { name: 'arg1', type: 'x64', fetch: load(register('rdi'), 16n) },
      'arg1=+16(%di)',
    ],
    [
      's=+0(%di):string',
      { name: 's', type: 'string', fetch: load(register('rdi'), 0n) },
      's=+0(%di):string',
    ],
    [
      '+0($stack1):string',
      { name: 'arg1', type: 'string', fetch: load({ kind: 'stack', index: 1 }, 0n) },
      'arg1=+0($stack1):string',
    ],
    [
      '-1(+0(+8(%di))):u8',
      { name: 'arg1', type: 'u8', fetch: load(load(load(register('rdi'), 8n), 0n), -1n) },
      'arg1=-1(+0(+8(%di))):u8',
    ],
  ];

test('arguments', () => {
  for (const [text, argument, printed] of ARGUMENTS) {
    const definition = parseDefinition(`f@x ${text}`);
    assert.deepEqual(definition.arguments, [argument], text);
    assert.equal(printDefinition(definition), `f@x ${printed}`);
  }
});

test('every psABI argument register, in order', () => {
  const { arguments: found } = parseDefinition('f@x $arg1 $arg2 $arg3 $arg4 $arg5 $arg6');
  assert.deepEqual(
    found.map(({ name, fetch }) => [name, fetch.kind === 'register' && fetch.register]),
    [
      ['arg1', 'rdi'],
      ['arg2', 'rsi'],
      ['arg3', 'rdx'],
      ['arg4', 'rcx'],
      ['arg5', 'r8'],
      ['arg6', 'r9'],
    ],
  );
});

test('every register by both names, every type by its own', () => {
  const registers =
    'ax bx cx dx si di bp sp r8 r9 r10 r11 r12 r13 r14 r15 ip flags ' +
    'rax rbx rcx rdx rsi rdi rbp rsp rip';
  const short = new Map([['flags', 'flags']]);
  for (const name of registers.split(' ')) {
    const [argument] = parseDefinition(`f@x %${name}`).arguments;
    const full = short.get(name) ?? (name.startsWith('r') ? name : `r${name}`);
    assert.deepEqual(argument?.fetch, { kind: 'register', register: full });
  }
  for (const type of 'u8 u16 u32 u64 s8 s16 s32 s64 x8 x16 x32 x64'.split(' ')) {
    assert.equal(parseDefinition(`f@x %di:${type}`).arguments[0]?.type, type);
  }
});

// ^ marks the column; it is not part of the text.
const REFUSED: readonly (readonly [marked: string, what: keyof typeof REFUSALS])[] = [
  ['^', 'empty'],
  ['^  ', 'empty'],
  ['zfree^', 'noLocation'],
  ['zfree^ %di', 'noLocation'],
  ['^@zsh', 'noFunction'],
  ["^''@zsh", 'noFunction'],
  ['^+8@zsh', 'noFunction'],
  ['zfree@^', 'noFile'],
  ['zfree@^ %di', 'noFile'],
  ['^:0x10', 'noFile'],
  ['zfree+^@zsh', 'badOffset'],
  ['zfree+^8z@zsh', 'badOffset'],
  ['zfree+^-8@zsh', 'badOffset'],
  ['zfree+^08@zsh', 'badOffset'],
  ['zfree+^0x20000000000000@zsh', 'badOffset'],
  ['operator+^@zsh', 'badOffset'],
  ['/bin/sh:^10a', 'badOffset'],
  ['/bin/sh:^', 'badOffset'],
  ['/bin/sh:^ %di', 'badOffset'],
  ['/bin/sh:^-1', 'badOffset'],
  ['/bin/sh:^0xffffffffffffffff', 'badOffset'],
  ['f@a^:0x10', 'colonInFile'],
  ["^'f@zsh", 'quoteOpen'],
  ['f@^"zsh\\" %di', 'quoteOpen'],
  ['f@zsh^\\', 'escapeOpen'],
  ['f@z^\0sh', 'nulCharacter'],
  ['f^%g@zsh', 'badAddressSuffix'],
  ['f^+8%return@zsh', 'functionInMiddle'],
  ['r f^+8@zsh', 'functionInMiddle'],
  ['/bin/sh:0x10^%returns', 'badAddressSuffix'],
  ['/bin/sh:0x10(^x)', 'badReference'],
  ['/bin/sh:0x10(^)', 'badReference'],
  ['/bin/sh:0x10(0x20^', 'referenceOpen'],
  ['/bin/sh:0x10(0x20)^%return', 'badReferenceSuffix'],
  ['^0:0x400000', 'badProcess'],
  ['^4194305:0x400000', 'badProcess'],
  ['1234:^0x10000000000000000', 'badOffset'],
  ['^8:1:0x4000', 'badInode'],
  ['^8:1:0:0x4000', 'badInode'],
  ['-:^', 'noEventName'],
  ['p:^ f@x', 'noEventName'],
  ['p:^/e f@x', 'noGroupName'],
  ['p:g/^1e f@x', 'badEventName'],
  ['p:^1g/e f@x', 'badGroupName'],
  ['r^0 f@x', 'badMaxActive'],
  ['r^4097:e f@x', 'badMaxActive'],
  ['f@x if ^', 'noFilter'],
  ['f@x if^', 'noFilter'],
  ['f@x %di if ^arg2 == 1', 'fieldNotFound'],
  ['f@x ^=%di', 'noArgumentName'],
  ['f@x ^var-1=%di', 'badArgumentName'],
  ['f@x ^1a=%di', 'badArgumentName'],
  ['f@x a=%di ^a=%si', 'usedArgumentName'],
  ['f@x arg2=%di ^%si', 'usedArgumentName'],
  ['f@x ^common_pid=%si', 'usedArgumentName'],
  [`f@x ^${'a'.repeat(33)}=%si`, 'argumentNameTooLong'],
  [`f@x a=^%di:${'a'.repeat(60)}`, 'argumentTooLong'],
  [`f@x ${'%di '.repeat(128)}%di`.replace('%di', '^%di'), 'tooManyArguments'],
  ['f@x a=^', 'noArgumentBody'],
  ['f@x a=^ %di', 'noArgumentBody'],
  ['f@x ^%none_reg', 'badRegister'],
  ['f@x ^%', 'badRegister'],
  ['f@x ^%cs', 'badRegister'],
  ['f@x a=+8(^%none)', 'badRegister'],
  ['f@x ^$none_var', 'badVariable'],
  ['f@x ^$stackx', 'badVariable'],
  ['f@x ^$arg', 'badVariable'],
  ['f@x ^$retval', 'retvalOnProbe'],
  ['f@x ^$retval2', 'retvalOnProbe'],
  ['f@x ^$arg0', 'badArgumentNumber'],
  ['f@x ^$arg7', 'badArgumentNumber'],
  ['f@x ^$stack268435456', 'badStackNumber'],
  ['f@x ^$stack99999999999999999999999', 'badStackNumber'],
  [`f@x ^${'+0(%di):u64[64] '.repeat(128)}`, 'eventTooBig'],
  [`f@x s=+0(%di):string if ^${Array(20).fill('s == "a"').join(' || ')}`, 'eventTooBig'],
  ['f@x ^&1', 'badFetch'],
  ['f@x a=^di', 'badFetch'],
  ['f@x +0(^)', 'badFetch'],
  ['f@x +0(%di)^x', 'badFetch'],
  ['f@x ^+0%di)', 'dereferenceNeedsBrace'],
  ['f@x ^+0ab1(%di)', 'badDereferenceOffset'],
  ['f@x ^+(%di)', 'badDereferenceOffset'],
  ['f@x ^+0x8000000000000000(%di)', 'badDereferenceOffset'],
  ['f@x +0(+0(%di^)', 'dereferenceOpen'],
  ['f@x +0(%di^', 'dereferenceOpen'],
  ['f@x +0(^$comm)', 'commDereferenced'],
  ['f@x %di:^', 'badType'],
  ['f@x a=%di:^u65', 'badType'],
  ['f@x a=%di:^__proto__', 'badType'],
  ['f@x %di:^string', 'stringOfRegister'],
  ['f@x $stack1:^string', 'stringOfRegister'],
  ['f@x $comm:^u64', 'needsString'],
  ['f@x $comm:^u64[4]', 'needsString'],
  ['f@x $comm:u64[4^', 'arrayOpen'],
  ['f@x $comm:string32[^65]', 'arrayTooBig'],
  ['f@x $comm:[^0]', 'badArrayNumber'],
  ['f@x \\"text":[4^', 'arrayOpen'],
  ['f@x $COMM:^foo', 'needsString'],
  ['f@x $comm:^', 'needsString'],
  ['f@x a=+u8(^%none)', 'badRegister'],
  [`f@x +0(^${'+0('.repeat(14)}%r8${')'.repeat(15)}`, 'tooManyDereferences'],
];

test('what is refused, with its column', () => {
  for (const [line, what] of REFUSED) {
    const { text, column } = marked(line);
    const error = refusalOf(text);
    assert.equal(error.message, REFUSALS[what], text);
    assert.deepEqual(error.position, { text, column }, text);
  }
});

test('the limits themselves are accepted', () => {
  assert.equal(parseDefinition(`f@x ${'%di '.repeat(128)}`).arguments.length, 128);
  assert.equal(parseDefinition(`f@x ${'a'.repeat(32)}=%di`).arguments.length, 1);
  assert.equal(parseDefinition(`f@x $stack${'1'.padStart(57, '0')}`).arguments.length, 1);
  const edges = parseDefinition('f@x +0x7fffffffffffffff(%di) -0x8000000000000000(%di)').arguments;
  assert.deepEqual(
    edges.map(({ fetch }) => (fetch.kind === 'load' ? fetch.offset : undefined)),
    [2n ** 63n - 1n, -(2n ** 63n)],
  );
});

test('as a person sees it', () => {
  assert.equal(
    refusalOf('f@x a=%zz').render().split('\n').slice(0, 3).join('\n'),
    'Invalid register name\n  f@x a=%zz\n        ^',
  );
});

test('parse(print(x)) is x', () => {
  fc.assert(
    fc.property(definitions, (definition) => {
      assert.deepEqual(tree(parseDefinition(printDefinition(definition))), tree(definition));
    }),
    { numRuns: 3000 },
  );
});

test('printing what was parsed, parsing what was printed: a fixed point', () => {
  for (const [text] of LOCATIONS) {
    const printed = printDefinition(parseDefinition(text));
    assert.equal(printDefinition(parseDefinition(printed)), printed);
  }
});

test('random and mutated text is parsed and printed back, or refused with a column in it', () => {
  let accepted = 0;
  let refused = 0;
  const check = (text: string): void => {
    try {
      const definition = parseDefinition(text);
      assert.deepEqual(tree(parseDefinition(printDefinition(definition))), tree(definition), text);
      accepted++;
    } catch (error) {
      if (error instanceof assert.AssertionError) throw error;
      refused++;
      const { position } = refusalOf(text);
      assert.ok(position !== undefined && position.text === text);
      assert.ok(position.column >= 0 && position.column <= text.length, text);
    }
  };
  fc.assert(fc.property(fc.string({ unit: 'binary' }), check), { numRuns: 2000 });
  fc.assert(fc.property(mutations, check), { numRuns: 10_000 });
  assert.ok(accepted > 500 && refused > 500, `${accepted} accepted, ${refused} refused`);
});

test('long text is dealt with in time that grows with its length only', () => {
  const long = 200_000;
  for (const text of [
    `f@x ${'+0('.repeat(long)}`,
    `${'@'.repeat(long)}x`,
    `${"''".repeat(long)}f@x`,
    `f@x ${'a '.repeat(long)}`,
    `f@${' '.repeat(long)}`,
    `f+${'9'.repeat(long)}@x`,
    `f@x +${'9'.repeat(long)}(%di)`,
  ]) {
    const started = process.hrtime.bigint();
    assert.ok(refusalOf(text, true).position);
    assert.ok(process.hrtime.bigint() - started < 3_000_000_000n, text.slice(0, 10));
  }
});
