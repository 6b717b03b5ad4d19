/** The general registers of x86-64 as data: names, widths, encoding numbers, calling convention. */

/** A general register, all 64 bits of it. */
export type Register64 =
  | 'rax'
  | 'rcx'
  | 'rdx'
  | 'rbx'
  | 'rsp'
  | 'rbp'
  | 'rsi'
  | 'rdi'
  | 'r8'
  | 'r9'
  | 'r10'
  | 'r11'
  | 'r12'
  | 'r13'
  | 'r14'
  | 'r15';

/** The low 32 bits of a general register. Writing them clears the high 32. */
export type Register32 =
  | 'eax'
  | 'ecx'
  | 'edx'
  | 'ebx'
  | 'esp'
  | 'ebp'
  | 'esi'
  | 'edi'
  | 'r8d'
  | 'r9d'
  | 'r10d'
  | 'r11d'
  | 'r12d'
  | 'r13d'
  | 'r14d'
  | 'r15d';

/** The low 16 bits of a general register. Writing them keeps the others. */
export type Register16 =
  | 'ax'
  | 'cx'
  | 'dx'
  | 'bx'
  | 'sp'
  | 'bp'
  | 'si'
  | 'di'
  | 'r8w'
  | 'r9w'
  | 'r10w'
  | 'r11w'
  | 'r12w'
  | 'r13w'
  | 'r14w'
  | 'r15w';

/** The low 8 bits of a general register. `ah`, `bh`, `ch` and `dh` are not here: no stub needs them. */
export type Register8 =
  | 'al'
  | 'cl'
  | 'dl'
  | 'bl'
  | 'spl'
  | 'bpl'
  | 'sil'
  | 'dil'
  | 'r8b'
  | 'r9b'
  | 'r10b'
  | 'r11b'
  | 'r12b'
  | 'r13b'
  | 'r14b'
  | 'r15b';

/** Any part of a general register. */
export type Register = Register64 | Register32 | Register16 | Register8;

/** The width of an operand in bytes. */
export type Width = 1 | 2 | 4 | 8;

/** One general register under its four names. */
export interface RegisterNames {
  /** Its number in instruction encodings, 0 to 15 (Intel SDM volume 2, table 3-1). */
  readonly number: number;
  readonly 8: Register64;
  readonly 4: Register32;
  readonly 2: Register16;
  readonly 1: Register8;
}

/** The sixteen general registers in the order of their encoding numbers. */
export const REGISTERS: readonly RegisterNames[] = [
  { number: 0, 8: 'rax', 4: 'eax', 2: 'ax', 1: 'al' },
  { number: 1, 8: 'rcx', 4: 'ecx', 2: 'cx', 1: 'cl' },
  { number: 2, 8: 'rdx', 4: 'edx', 2: 'dx', 1: 'dl' },
  { number: 3, 8: 'rbx', 4: 'ebx', 2: 'bx', 1: 'bl' },
  { number: 4, 8: 'rsp', 4: 'esp', 2: 'sp', 1: 'spl' },
  { number: 5, 8: 'rbp', 4: 'ebp', 2: 'bp', 1: 'bpl' },
  { number: 6, 8: 'rsi', 4: 'esi', 2: 'si', 1: 'sil' },
  { number: 7, 8: 'rdi', 4: 'edi', 2: 'di', 1: 'dil' },
  { number: 8, 8: 'r8', 4: 'r8d', 2: 'r8w', 1: 'r8b' },
  { number: 9, 8: 'r9', 4: 'r9d', 2: 'r9w', 1: 'r9b' },
  { number: 10, 8: 'r10', 4: 'r10d', 2: 'r10w', 1: 'r10b' },
  { number: 11, 8: 'r11', 4: 'r11d', 2: 'r11w', 1: 'r11b' },
  { number: 12, 8: 'r12', 4: 'r12d', 2: 'r12w', 1: 'r12b' },
  { number: 13, 8: 'r13', 4: 'r13d', 2: 'r13w', 1: 'r13b' },
  { number: 14, 8: 'r14', 4: 'r14d', 2: 'r14w', 1: 'r14b' },
  { number: 15, 8: 'r15', 4: 'r15d', 2: 'r15w', 1: 'r15b' },
];

/** Which registers hold the arguments of a system call (psABI x86-64, A.2.1). The kernel destroys rcx and r11. */
export const SYSCALL_REGISTERS: readonly Register64[] = ['rdi', 'rsi', 'rdx', 'r10', 'r8', 'r9'];

/** What a register's name means. */
export interface RegisterPart {
  readonly number: number;
  readonly width: Width;
}

const WIDTHS: readonly Width[] = [8, 4, 2, 1];

const PARTS: ReadonlyMap<Register, RegisterPart> = new Map(
  REGISTERS.flatMap((names) =>
    WIDTHS.map((width): [Register, RegisterPart] => [
      names[width],
      { number: names.number, width },
    ]),
  ),
);

/**
 * The encoding number and the width in bytes of a register.
 * @throws RangeError for a name that is not a general register.
 */
export function partOf(register: Register): RegisterPart {
  const part = PARTS.get(register);
  if (part === undefined) throw new RangeError(`not a general register: ${register}`);
  return part;
}

/** The name of `width` bytes of the register to which `register` belongs: ('rdx', 4) is 'edx'. */
export function resized<W extends Width>(register: Register, width: W): RegisterNames[W] {
  const names = REGISTERS[partOf(register).number];
  if (names === undefined) throw new RangeError(`not a general register: ${register}`);
  return names[width];
}
