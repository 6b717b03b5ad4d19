/** Source texts of the fixtures of this folder. */

/** Functions of many kinds: global, weak, local, aliases, an IFUNC, assembly without type or size. */
export const C_SOURCE = `
#include <stdlib.h>
static int __attribute__((noinline)) hidden(int x) { return x * 3 + 1; }
int visible(int x) { return hidden(x) + 2; }
int visible_alias(int x) __attribute__((alias("visible")));
int __visible(int x) __attribute__((alias("visible")));
int __attribute__((weak)) weakling(int x) { return x - 1; }
static int chosen_impl(int x) { return x + 40; }
static int (*choose(void))(int) { return chosen_impl; }
int chosen(int x) __attribute__((ifunc("choose")));
__asm__(".text\\n.globl assembled\\nassembled:\\n nop\\n nop\\n ret\\n"
        ".globl assembled_next\\nassembled_next:\\n ret\\n"
        ".type sizeless, @function\\n.globl sizeless\\nsizeless:\\n nop\\n ret\\n"
        ".globl after_sizeless\\n.type after_sizeless, @function\\nafter_sizeless:\\n ret\\n"
        ".size after_sizeless, 1\\n");
int data_object = 7;
int main(int argc, char **argv) { return visible(argc) + weakling(argc) + chosen(argc); }
`;

/** Two versions of one function; needs {@link VERSION_SCRIPT}. */
export const VERSIONED_SOURCE = `
int old_work(int x) { return x; }
int new_work(int x) { return x + 1; }
__asm__(".symver old_work, work@FIX_1.0\\n.symver new_work, work@@FIX_2.0");
int plain(int x) { return x * 2; }
`;
export const VERSION_SCRIPT =
  'FIX_1.0 { global: plain; work; local: *; };\nFIX_2.0 { global: work; } FIX_1.0;\n';

/** Names of every shape that C++ has for functions. */
export const CPP_SOURCE = `
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>
namespace ns {
struct Class {
  int value;
  Class(int v);
  ~Class();
  int method(int x) const;
  int method(const std::string &s, std::vector<int> v);
  bool operator<(const Class &other) const;
  int operator()(int x);
  operator int() const;
  template <typename T> T convert(T x) __attribute__((noinline));
};
Class::Class(int v) : value(v) {}
Class::~Class() { value = 0; }
int Class::method(int x) const { return value + x; }
int Class::method(const std::string &s, std::vector<int> v) { return value + s.size() + v.size(); }
bool Class::operator<(const Class &other) const { return value < other.value; }
int Class::operator()(int x) { return value * x; }
Class::operator int() const { return value; }
template <typename T> T Class::convert(T x) { return x + T(value); }
template <typename T> T __attribute__((noinline)) generic(T x) { return x * 2; }
namespace { int __attribute__((noinline)) inner(int x) { return x * 5 + rand(); } }
int inner_user(int x) { return inner(x); }
int __attribute__((noinline)) thrower(int x) {
  if (x > 2) throw std::runtime_error("too large");
  return x;
}
int __attribute__((noinline)) catcher(int x) {
  Class guard(x);
  try {
    std::string text("a long text that does not fit inside the string itself");
    return thrower(x) + (int)text.size() + guard.value;
  } catch (const std::runtime_error &error) {
    return -1;
  } catch (...) {
    return -2;
  }
}
int __attribute__((noinline)) calm(int x) noexcept { return x + 1; }
}
extern "C" int plain_c(int x) { return x; }
int main(int argc, char **argv) {
  ns::Class c(argc);
  std::function<int(int)> f = [&](int y) { return y + c.value; };
  printf("%d\\n", c.convert(argc) + (int)c.convert(1.5) + ns::generic(argc) + ns::inner_user(argc)
    + ns::catcher(argc) + ns::calm(argc) + f(3) + c(2) + (c < c) + c.method(1)
    + c.method("x", {1, 2}) + (int)c);
}
`;
