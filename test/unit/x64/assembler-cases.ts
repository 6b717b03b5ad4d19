/** Every mnemonic over every shape of operand, each with the text that GNU `as` takes for it. */

import { Assembler } from '../../../src/x64/assembler.ts';
import { CONDITIONS, mem, type MemoryParts } from '../../../src/x64/operands.ts';
import {
  REGISTERS,
  resized,
  type Register,
  type Register32,
  type Register64,
  type Width,
} from '../../../src/x64/registers.ts';

/** One instruction: what `as` is told, and what we do. */
export interface Case {
  readonly text: string;
  readonly emit: (code: Assembler) => unknown;
}

const WIDTHS: readonly Width[] = [1, 2, 4, 8];
const POINTER: Record<Width, string> = {
  1: 'byte ptr',
  2: 'word ptr',
  4: 'dword ptr',
  8: 'qword ptr',
};
const DISPLACEMENTS = [0, 8, 127, -128, 128, -129, 0x12345678, -0x80000000];
const SCALES = [1, 2, 4, 8] as const;
const BINARY = ['add', 'or', 'adc', 'sbb', 'and', 'sub', 'xor', 'cmp'] as const;
const IMMEDIATES: Record<Width, readonly number[]> = {
  1: [0, 1, -1, 127, -128, 255],
  2: [1, -1, 127, 128, -129, 32767, -32768, 65535],
  4: [1, -1, 127, 128, -129, 0x7fffffff, -0x80000000, 0xffffffff],
  8: [1, -1, 127, 128, -129, 0x7fffffff, -0x80000000],
};

/** The text of a memory operand without its width. */
function memoryText(parts: MemoryParts): string {
  const { base, index, scale = 1, displacement = 0, segment } = parts;
  const terms = [
    ...(base === undefined ? [] : [base]),
    ...(index === undefined ? [] : [`${index}*${scale}`]),
  ];
  const sum = terms.length === 0 ? `ds:${displacement}` : `[${terms.join('+')}+${displacement}]`;
  return segment === undefined ? sum : `${segment}:${sum.replace('ds:', '')}`;
}

const registers64 = REGISTERS.map((names) => names[8]);

/** Shapes that cover every base, every index, every scale, every size of displacement. */
function* shapes(): Generator<MemoryParts> {
  for (const base of registers64) {
    for (const displacement of DISPLACEMENTS) yield { base, displacement };
    for (const index of registers64) {
      if (index === 'rsp') continue;
      for (const scale of SCALES)
        yield { base, index, scale, displacement: scale === 4 ? 0 : 0x40 };
    }
    yield { base, segment: 'fs' };
    yield { base, segment: 'gs', displacement: 0x1000 };
  }
  for (const index of registers64) {
    if (index !== 'rsp') for (const scale of SCALES) yield { index, scale, displacement: 0x1234 };
  }
  yield { displacement: 0x7ffffff0 };
  yield { displacement: 0x28, segment: 'fs' };
}

const allShapes = [...shapes()];
/** Shapes for the forms whose ModRM is written by the same code: the notorious bases only. */
const someShapes: readonly MemoryParts[] = [
  { base: 'rax' },
  { base: 'rsp', displacement: 8 },
  { base: 'rbp' },
  { base: 'r12' },
  { base: 'r13', displacement: 0x1000 },
  { base: 'r13', index: 'r12', scale: 8 },
  { base: 'rdx', segment: 'fs' },
];

function* moves(): Generator<Case> {
  for (const width of WIDTHS) {
    for (const { [width]: one } of REGISTERS) {
      for (const { [width]: other } of REGISTERS) {
        yield { text: `mov ${one}, ${other}`, emit: (code) => code.mov(one, other) };
      }
      for (const shape of width === 8 || width === 1 ? allShapes : someShapes) {
        if ((shape.index ?? shape.segment) !== undefined && one !== 'r9' && one !== 'dil') continue;
        const text = memoryText(shape);
        yield { text: `mov ${one}, ${text}`, emit: (code) => code.mov(one, mem(shape)) };
        yield { text: `mov ${text}, ${one}`, emit: (code) => code.mov(mem(shape), one) };
      }
      for (const value of IMMEDIATES[width]) {
        // Ours writes the low half where that leaves the register equal; `as` does not.
        const name = width === 8 && value >= 0 ? resized(one, 4) : one;
        yield { text: `mov ${name}, ${value}`, emit: (code) => code.mov(one, value) };
      }
    }
    for (const shape of someShapes) {
      for (const value of IMMEDIATES[width]) {
        const memory = mem({ ...shape, width });
        const text = `mov ${POINTER[width]} ${memoryText(shape)}, ${value}`;
        yield { text, emit: (code) => code.mov(memory, value) };
      }
    }
  }
}

function* extensions(): Generator<Case> {
  for (const to of [4, 8] as const) {
    for (const { [to]: destination } of REGISTERS) {
      for (const from of [1, 2, 4] as const) {
        const sources = REGISTERS.map((names) => names[from]);
        yield* extension(destination, from, sources, from < to);
      }
    }
  }
}

function* extension(
  destination: Register32 | Register64,
  from: Width,
  sources: readonly Register[],
  valid: boolean,
): Generator<Case> {
  if (!valid) return;
  const sign = from === 4 ? 'movsxd' : 'movsx';
  for (const source of sources) {
    yield { text: `${sign} ${destination}, ${source}`, emit: (c) => c.movsx(destination, source) };
    if (from === 4) continue;
    yield { text: `movzx ${destination}, ${source}`, emit: (c) => c.movzx(destination, source) };
  }
  for (const shape of someShapes) {
    const memory = mem({ ...shape, width: from });
    const text = `${POINTER[from]} ${memoryText(shape)}`;
    yield { text: `${sign} ${destination}, ${text}`, emit: (c) => c.movsx(destination, memory) };
    if (from === 4) continue;
    yield { text: `movzx ${destination}, ${text}`, emit: (c) => c.movzx(destination, memory) };
  }
}

function* arithmetic(): Generator<Case> {
  for (const width of WIDTHS) {
    for (const name of BINARY) {
      for (const { [width]: one } of REGISTERS) {
        for (const { [width]: other } of REGISTERS) {
          yield { text: `${name} ${one}, ${other}`, emit: (code) => code[name](one, other) };
        }
        for (const value of IMMEDIATES[width]) {
          yield { text: `${name} ${one}, ${value}`, emit: (code) => code[name](one, value) };
        }
        for (const shape of someShapes) {
          const text = memoryText(shape);
          yield { text: `${name} ${one}, ${text}`, emit: (code) => code[name](one, mem(shape)) };
          yield { text: `${name} ${text}, ${one}`, emit: (code) => code[name](mem(shape), one) };
        }
      }
      for (const shape of someShapes) {
        const memory = mem({ ...shape, width });
        for (const value of IMMEDIATES[width]) {
          const text = `${name} ${POINTER[width]} ${memoryText(shape)}, ${value}`;
          yield { text, emit: (code) => code[name](memory, value) };
        }
      }
    }
  }
}

function* others(width: Width): Generator<Case> {
  for (const { [width]: one } of REGISTERS) {
    for (const { [width]: other } of REGISTERS) {
      yield { text: `test ${one}, ${other}`, emit: (code) => code.test(one, other) };
      if (width === 1) continue;
      yield { text: `imul ${one}, ${other}`, emit: (code) => code.imul(one, other) };
      const large = width === 2 ? 1000 : 100000;
      yield { text: `imul ${one}, ${other}, 3`, emit: (code) => code.imul(one, other, 3) };
      yield {
        text: `imul ${one}, ${other}, ${large}`,
        emit: (code) => code.imul(one, other, large),
      };
    }
    for (const value of IMMEDIATES[width]) {
      yield { text: `test ${one}, ${value}`, emit: (code) => code.test(one, value) };
    }
    for (const shape of someShapes) {
      const text = memoryText(shape);
      const memory = mem(shape);
      yield { text: `test ${text}, ${one}`, emit: (code) => code.test(memory, one) };
      yield { text: `cmpxchg ${text}, ${one}`, emit: (code) => code.cmpxchg(memory, one) };
      yield { text: `lock cmpxchg ${text}, ${one}`, emit: (c) => c.lock().cmpxchg(memory, one) };
      yield { text: `xadd ${text}, ${one}`, emit: (code) => code.xadd(memory, one) };
      yield { text: `lock xadd ${text}, ${one}`, emit: (code) => code.lock().xadd(memory, one) };
      yield { text: `xchg ${text}, ${one}`, emit: (code) => code.xchg(memory, one) };
    }
    yield* unary(one, one, width);
  }
  for (const shape of someShapes) {
    const memory = mem({ ...shape, width });
    const text = `${POINTER[width]} ${memoryText(shape)}`;
    for (const value of IMMEDIATES[width]) {
      yield { text: `test ${text}, ${value}`, emit: (code) => code.test(memory, value) };
    }
    yield { text: `lock inc ${text}`, emit: (code) => code.lock().inc(memory) };
    yield* unary(text, memory, width);
  }
}

function* unary(
  text: string,
  operand: Parameters<Assembler['inc']>[0],
  width: Width,
): Generator<Case> {
  for (const name of ['inc', 'dec', 'not', 'neg'] as const) {
    yield { text: `${name} ${text}`, emit: (code) => code[name](operand) };
  }
  for (const name of ['shl', 'shr', 'sar'] as const) {
    for (const count of [2, width * 8 - 1]) {
      yield { text: `${name} ${text}, ${count}`, emit: (code) => code[name](operand, count) };
    }
  }
}

function* conditional(): Generator<Case> {
  for (const condition of CONDITIONS) {
    for (const names of REGISTERS) {
      const { 1: low } = names;
      yield { text: `set${condition} ${low}`, emit: (code) => code.set(condition, low) };
      for (const width of [2, 4, 8] as const) {
        const one = names[width];
        const other = width === 8 ? 'r10' : width === 4 ? 'esi' : 'bp';
        yield {
          text: `cmov${condition} ${one}, ${other}`,
          emit: (code) => code.cmov(condition, one, other),
        };
      }
    }
    for (const shape of someShapes) {
      const text = memoryText(shape);
      yield { text: `set${condition} ${text}`, emit: (code) => code.set(condition, mem(shape)) };
      yield {
        text: `cmov${condition} r9, ${text}`,
        emit: (code) => code.cmov(condition, 'r9', mem(shape)),
      };
    }
  }
}

function* single(): Generator<Case> {
  for (const { 8: wide, 4: narrow } of REGISTERS) {
    yield { text: `push ${wide}`, emit: (code) => code.push(wide) };
    yield { text: `pop ${wide}`, emit: (code) => code.pop(wide) };
    yield { text: `jmp ${wide}`, emit: (code) => code.jmp(wide) };
    yield { text: `call ${wide}`, emit: (code) => code.call(wide) };
    yield { text: `rdfsbase ${wide}`, emit: (code) => code.rdfsbase(wide) };
    yield { text: `rdpid ${wide}`, emit: (code) => code.rdpid(wide) };
    for (const { 4: other } of REGISTERS) {
      yield { text: `lsl ${narrow}, ${other}`, emit: (code) => code.lsl(narrow, other) };
    }
    for (const value of [0n, 0xffffffffn, -1n, -0x80000000n, 0x100000000n, 0x123456789abcdef0n]) {
      const name = value >= 0n && value < 1n << 32n ? narrow : wide;
      yield { text: `mov ${name}, ${value}`, emit: (code) => code.mov(wide, value) };
    }
  }
  for (const shape of allShapes) {
    const text = `qword ptr ${memoryText(shape)}`;
    yield { text: `jmp ${text}`, emit: (code) => code.jmp(mem(shape)) };
    yield { text: `call ${text}`, emit: (code) => code.call(mem(shape)) };
    yield { text: `push ${text}`, emit: (code) => code.push(mem(shape)) };
    if (shape.segment === undefined) {
      yield { text: `lea r8, ${memoryText(shape)}`, emit: (code) => code.lea('r8', mem(shape)) };
      yield { text: `lea rcx, ${memoryText(shape)}`, emit: (code) => code.lea('rcx', mem(shape)) };
    }
  }
  yield { text: 'rep movsb', emit: (code) => code.repMovsb() };
  const plain = ['ret', 'syscall', 'int3', 'ud2', 'lahf', 'sahf', 'pushfq', 'popfq', 'cld', 'std'];
  const more = ['pause', 'rdtsc', 'nop'] as const;
  for (const name of [...plain, ...more] as readonly (typeof more)[number][]) {
    yield { text: name, emit: (code) => code[name]() }; // the cast: all of them take no operand
  }
}

/** All cases. */
export function* assemblerCases(): Generator<Case> {
  yield* moves();
  yield* extensions();
  yield* arithmetic();
  for (const width of WIDTHS) yield* others(width);
  yield* conditional();
  yield* single();
}
