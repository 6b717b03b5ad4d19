import assert from 'node:assert/strict';
import { test } from 'node:test';

import { demangleRustLegacy, rustLegacyHash } from '../../../src/symbols/demangle-rust-legacy.ts';
import { demangleRustV0 } from '../../../src/symbols/demangle-rust-v0.ts';
import { readableName } from '../../../src/symbols/demangle.ts';
import { decodePunycode } from '../../../src/symbols/punycode.ts';
import { compile, readelfSymbols, run, without } from './fixtures.ts';

const LEGACY: readonly (readonly [string, string | undefined])[] = [
  ['_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE', 'core::fmt::Write::write_fmt'],
  ['_ZN4test1a2bc17h0123456789abcdefE', 'test::a::bc'],
  ['_ZN12test$BP$test4foob17h0123456789abcdefE', 'test*test::foob'],
  ['_ZN28_$u7b$$u7b$closure$u7d$$u7d$17h0123456789abcdefE', '{{closure}}'],
  [
    '_ZN71_$LT$Test$u20$$u2b$$u20$$u27$static$u20$as$u20$foo..Bar$LT$Test$GT$$GT$3bar17h930b740aa94f1d3aE',
    "<Test + 'static as foo::Bar<Test>>::bar",
  ],
  ['_ZN3foo3bar17h0123456789abcdefE.llvm.9D1C9369', 'foo::bar'],
  ['_ZN3foo3bar17h0123456789abcdefE.cold', 'foo::bar.cold'],
  ['_ZN3foo3barE', undefined],
  ['_ZN3foo3barEv', undefined],
  ['_ZN17h0123456789abcdefE', undefined],
  ['_ZN3foo17h0123456789abcdeXE', undefined],
  ['_ZN99foo17h0123456789abcdefE', undefined],
  ['_ZN5a$XX$17h0123456789abcdefE', undefined],
  ['_ZN', undefined],
];

const V0: readonly (readonly [string, string | undefined])[] = [
  ['_RNvC6_123foo3bar', '123foo::bar'],
  ['_RNvNtCs1234_7mycrate3foo3bar', 'mycrate::foo::bar'],
  [
    '_RNqCs4fqI2P2rA04_11utf8_identsu30____7hkackfecea1cbdathfdh9hlq6y',
    'utf8_idents::საჭმელად_გემრიელი_სადილი',
  ],
  ['_RNCNCNgCs6DXkGYLi8lr_2cc5spawn00B5_', 'cc::spawn::{closure#0}::{closure#0}'],
  [
    '_RINbNbCskIICzLVDPPb_5alloc5alloc8box_freeDINbNiB4_5boxed5FnBoxuEp6OutputuEL_ECs1iopQbuBiw2_3std',
    'alloc::alloc::box_free::<dyn alloc::boxed::FnBox<(), Output = ()>>',
  ],
  ['_RMC0INtC8arrayvec8ArrayVechKj7b_E', '<arrayvec::ArrayVec<u8, 123>>'],
  ['_RMCs4fqI2P2rA04_13const_genericINtB0_8UnsignedKhb_E', '<const_generic::Unsigned<11>>'],
  ['_RMCs4fqI2P2rA04_13const_genericINtB0_6SignedKs98_E', '<const_generic::Signed<152>>'],
  ['_RMCs4fqI2P2rA04_13const_genericINtB0_6SignedKanb_E', '<const_generic::Signed<-11>>'],
  ['_RMCs4fqI2P2rA04_13const_genericINtB0_4BoolKb0_E', '<const_generic::Bool<false>>'],
  ['_RMCs4fqI2P2rA04_13const_genericINtB0_4CharKc76_E', "<const_generic::Char<'v'>>"],
  ['_RMCs4fqI2P2rA04_13const_genericINtB0_4CharKca_E', "<const_generic::Char<'\\n'>>"],
  ['_RNvMNtC3std3foops_', undefined],
  ['_RC3foo.llvm.9D1C9369', 'foo'],
  ['_RC3foo.llvm.9D1C9369@@16', 'foo'],
  ['_RNvC9backtrace3foo.cold', 'backtrace::foo.cold'],
  ['_RNvNvB_1a1b', undefined],
  ['_R', undefined],
  ['_R1C3foo', undefined],
];

test('Rust names of the first mangling', () => {
  for (const [mangled, readable] of LEGACY) assert.equal(demangleRustLegacy(mangled), readable);
  assert.equal(rustLegacyHash('_ZN4test17h0123456789abcdefE'), 'h0123456789abcdef');
});

test('Rust names of the second mangling', () => {
  for (const [mangled, readable] of V0) assert.equal(demangleRustV0(mangled), readable, mangled);
});

test('a name that doubles at each back reference is given up, not followed', () => {
  // Each tuple holds the one before twice.
  let name = 'C1aTuuE';
  let last = 3;
  for (let level = 0; level < 60; level++) {
    const here = name.length;
    const reference = `B${base62(last)}`;
    name += `T${reference}${reference}E`;
    last = here;
  }
  const started = performance.now();
  assert.equal(demangleRustV0(`_RI${name}E`), undefined);
  assert.equal(demangleRustV0(`_RIC1a${'S'.repeat(5000)}uE`), undefined);
  assert.ok(performance.now() - started < 500);
});

function base62(value: number): string {
  const digits = '0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ';
  if (value === 0) return '_';
  let text = '';
  for (let left = value - 1; ; left = Math.floor(left / 62)) {
    text = digits.charAt(left % 62) + text;
    if (left < 62) return `${text}_`;
  }
}

test('punycode (RFC 3492, section 7.1)', () => {
  // Example (B), written with the delimiter that Rust uses.
  assert.equal(decodePunycode('ihqwcrb4cv8a8dqg056pqjye'), '他们为什么不说中文');
  assert.equal(decodePunycode('gdel_5qa'), 'gödel');
  assert.equal(decodePunycode('gdel_5q-'), undefined);
  assert.equal(decodePunycode('a_99999999999999999'), undefined);
});

const SOURCE = `
use std::collections::HashMap;
trait Shape { fn area(&self) -> f64; }
struct Square<const N: usize>(f64);
impl<const N: usize> Shape for Square<N> {
    #[inline(never)] fn area(&self) -> f64 { self.0 * N as f64 }
}
mod größe { #[inline(never)] pub fn messen(x: &[u8]) -> usize { x.iter().map(|b| *b as usize).sum() } }
#[inline(never)] fn generic<T: std::fmt::Debug + ?Sized>(x: &T) -> String { format!("{:?}", x) }
#[inline(never)] fn call(f: &dyn Fn(i32) -> i32, g: fn(i32) -> i32) -> i32 { f(1) + g(2) }
fn main() {
    let mut map: HashMap<String, Vec<Option<u8>>> = HashMap::new();
    map.insert(generic("a"), vec![Some(1)]);
    println!("{} {} {}", generic(&map), Square::<3>(2.0).area(), größe::messen(b"abc"));
    println!("{}", call(&|x| x + map.len() as i32, |y| y * 2) + generic(&(1u8, 'x', [0i32; 4])).len() as i32);
}
`;

const OPTIONS = { legacy: [], v0: ['-Csymbol-mangling-version=v0'] } as const;

for (const mangling of ['legacy', 'v0'] as const) {
  const skip = without('rustc', 'c++filt', 'readelf');
  test(`all ${mangling} names of a Rust program read as c++filt reads them`, { skip }, (t) => {
    const options = [...OPTIONS[mangling], '-Cstrip=none', '-Copt-level=1'];
    const path = compile(`shapes_${mangling}.rs`, SOURCE, options);
    const isOurs = mangling === 'v0' ? /^_R/ : /^_ZN.*17h[0-9a-f]{16}E/;
    const names = readelfSymbols(path)
      .filter(({ name, type }) => type === 'FUNC' && isOurs.test(name))
      .map(({ name }) => name);
    if (mangling === 'legacy' && names.length === 0) {
      t.skip('this rustc writes no names of the first mangling');
      return;
    }
    assert.ok(names.length > 20, `${names.length} names`);
    const expected = run('c++filt', ['--format=rust'], `${names.join('\n')}\n`).split('\n');
    const wrong = names.flatMap((name, at) => {
      // c++filt shows hashes and the types of constants, and no suffixes of the second mangling.
      const suffix = /^_R\w+(\..*)/.exec(name)?.[1] ?? '';
      const ours = readableName(name, undefined)?.signature.replace(suffix, '');
      const theirs = expected[at]
        ?.replace(/::h[0-9a-f]{16}(?=$|\.)/, '')
        .replace(/(?<=\w)\[[0-9a-f]+\]/g, '')
        .replace(/: [iu](size|\d+)(?=[\]>,])/g, '');
      return ours === theirs ? [] : [{ name, ours, theirs }];
    });
    assert.deepEqual(wrong, []);
  });
}
