import assert from 'node:assert/strict';
import { test } from 'node:test';

import { normalizeSpaces, withoutParameters } from '../../../src/symbols/signature.ts';

const PATHS: readonly (readonly [string, string])[] = [
  ['f(int)', 'f'],
  ['ns::f(int (*)(char)) const', 'ns::f'],
  ['ns::Class::~Class()', 'ns::Class::~Class'],
  ['(anonymous namespace)::f(int)', '(anonymous namespace)::f'],
  ['ns::(anonymous namespace)::f(int)', 'ns::(anonymous namespace)::f'],
  ['operator new(unsigned long)', 'operator new'],
  ['operator delete[](void*)', 'operator delete[]'],
  ['A::operator()(int) const', 'A::operator()'],
  ['A::operator<(A const&) const', 'A::operator<'],
  ['A::operator<<(int)', 'A::operator<<'],
  ['A::operator->() const', 'A::operator->'],
  ['A::operator unsigned int() const', 'A::operator unsigned int'],
  ['bool operator==<char>(A<char> const&, int)', 'operator==<char>'],
  ['bool ns::operator< <char>(A<char> const&, int)', 'ns::operator< <char>'],
  ['int ns::generic<int>(int)', 'ns::generic<int>'],
  ['std::enable_if<((4) > (3)), int>::type ns::f<A, 3>(A)', 'ns::f<A, 3>'],
  ['void f<(a < b), int>(int)', 'f<(a < b), int>'],
  ['decltype (x) ns::g<int>(int)', 'ns::g<int>'],
  [
    'std::vector<int, std::allocator<int> >::push_back(int&&)',
    'std::vector<int, std::allocator<int> >::push_back',
  ],
  ['main::{lambda(int)#1}::operator()(int) const', 'main::{lambda(int)#1}::operator()'],
  [
    'f(int) const::{lambda(char)#2}::operator()(char) const',
    'f(int) const::{lambda(char)#2}::operator()',
  ],
  ['f(int) [clone .cold]', 'f [clone .cold]'],
  ['vtable for ns::Class', 'vtable for ns::Class'],
  ['operatorial(int)', 'operatorial'],
  ['f(', 'f'],
  ['', ''],
];

test('signatures without parameters', () => {
  for (const [signature, path] of PATHS) assert.equal(withoutParameters(signature), path);
});

test('spaces that mean nothing', () => {
  assert.equal(
    normalizeSpaces(' a < b > ( unsigned  int , c ) const '),
    'a<b>(unsigned int,c)const',
  );
  assert.equal(normalizeSpaces('vector<vector<int> >'), normalizeSpaces('vector<vector<int>>'));
});
