/** The registers that a definition can name, as data. */

import type { RegisterName } from './program.ts';

/**
 * The kernel's names (arch/x86/kernel/ptrace.c, regoffset_table) and what they stand for. `orig_ax`,
 * `cs` and `ss` are left out: they say nothing about a task in user space.
 */
const KERNEL_NAMES: readonly (readonly [kernel: string, register: RegisterName])[] = [
  ['ax', 'rax'],
  ['bx', 'rbx'],
  ['cx', 'rcx'],
  ['dx', 'rdx'],
  ['si', 'rsi'],
  ['di', 'rdi'],
  ['bp', 'rbp'],
  ['sp', 'rsp'],
  ['r8', 'r8'],
  ['r9', 'r9'],
  ['r10', 'r10'],
  ['r11', 'r11'],
  ['r12', 'r12'],
  ['r13', 'r13'],
  ['r14', 'r14'],
  ['r15', 'r15'],
  ['ip', 'rip'],
  ['flags', 'flags'],
];

const byText: ReadonlyMap<string, RegisterName> = new Map([
  ...KERNEL_NAMES,
  ...KERNEL_NAMES.map(([, register]) => [register, register] as const),
]);

const byRegister: ReadonlyMap<RegisterName, string> = new Map(
  KERNEL_NAMES.map(([kernel, register]) => [register, kernel]),
);

/**
 * Where a function of the C calling convention finds its first six integer arguments at its first
 * instruction (System V psABI for x86-64, section 3.2.3).
 */
export const ARGUMENT_REGISTERS: readonly RegisterName[] = ['rdi', 'rsi', 'rdx', 'rcx', 'r8', 'r9'];

/** Finds a register by its kernel name (`di`) or its full one (`rdi`), without the `%`. */
export function registerByName(name: string): RegisterName | undefined {
  return byText.get(name);
}

/** The name that the kernel's definitions use for a register, without the `%`. */
export function kernelNameOf(register: RegisterName): string {
  return byRegister.get(register) ?? register;
}

/** All names that the kernel's definitions use, in the order in which they are shown to a person. */
export const KERNEL_REGISTER_NAMES: readonly string[] = KERNEL_NAMES.map(([kernel]) => kernel);
