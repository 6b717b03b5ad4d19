/** An event's `format` file: where its fields lie in the kernel's record. */

import { TraplineError } from '../../base/errors.ts';
import { elementBytes } from '../../events/layout.ts';
import type { ProgramArgument } from '../../probe/program.ts';
import type { EventPlan } from './command.ts';

/** One field as the file names it. */
interface FormatField {
  readonly declaration: string;
  readonly offset: number;
  readonly size: number;
}

/** A pointer in the kernel's record, a u64. */
export interface PointerField {
  readonly offset: number;
  /** Of the u64 from which its own address is counted; undefined where that is a constant. */
  readonly base: number | undefined;
  /** What is added to that, from 0 to 4095: how the address lies in its page is all that matters. */
  readonly added: number;
}

/** One argument in the kernel's record. */
export interface KernelField {
  readonly kind: 'integer' | 'string' | 'array' | 'text';
  /** In bytes from the record's start; of a string: of the word that says where it is. */
  readonly offset: number;
  /** 1, 2, 4 or 8; of an array of integers, all of them; of a string 4, of several as often. */
  readonly bytes: number;
  /** The pointers on the way to it. */
  readonly guards: readonly PointerField[];
  /** A constant text, which no record holds. */
  readonly text?: Uint8Array;
}

/** How to read the records of one kernel event. Survives a message between threads. */
export interface KernelFormat {
  /** The first two bytes of each of its records. */
  readonly type: number;
  /** Of the place's address, a u64. */
  readonly ip: number;
  /** Of our number for the place, a u32. */
  readonly site: number;
  /** Of the word that says where the task's name is. */
  readonly comm: number | undefined;
  /** In the order of the program's arguments. */
  readonly fields: readonly KernelField[];
}

/** Of the thread's id, an i32, in every record of the kernel (struct trace_entry). */
export const COMMON_PID_OFFSET = 4;

/**
 * Reads a format file.
 * @throws TraplineError `unsupported` where it is not what was asked for.
 */
export function parseFormat(text: string, plan: EventPlan): KernelFormat {
  const type = Number(/^ID: (\d+)$/m.exec(text)?.[1]);
  const fields = new Map<string, FormatField>();
  for (const match of text.matchAll(/^\tfield:([^;]*);\toffset:(\d+);\tsize:(\d+);/gm)) {
    const declaration = match[1] ?? '';
    const name = /(\w+)(?:\[\d*\])?$/.exec(declaration)?.[1] ?? '';
    fields.set(name, { declaration, offset: Number(match[2]), size: Number(match[3]) });
  }
  const find = (name: string, size: number): FormatField => {
    const field = fields.get(name);
    if (field === undefined || (size > 0 && field.size !== size)) throw unexpected(text, name);
    return field;
  };
  if (!Number.isInteger(type) || find('common_pid', 4).offset !== COMMON_PID_OFFSET) {
    throw unexpected(text, 'ID');
  }
  return {
    type,
    ip: find('__probe_ip', 8).offset,
    site: find(plan.site, 4).offset,
    comm: plan.comm === undefined ? undefined : find(plan.comm, 4).offset,
    fields: plan.program.arguments.map((argument) => {
      const { name, fetch } = argument;
      if (fetch.kind === 'text') {
        return { kind: 'text', offset: 0, bytes: 0, guards: [], text: Buffer.from(fetch.text) };
      }
      const { declaration, offset, size } = find(name, 0);
      const kind = kindOf(argument);
      const count = argument.count ?? 1;
      const bytes = kind === 'string' ? 4 * count : elementBytes(argument.type) * count;
      if (declaration.startsWith('__data_loc') !== (kind === 'string') || size !== bytes) {
        throw unexpected(text, name);
      }
      const guards = (plan.guards.get(name) ?? []).map((guard) => ({
        offset: find(guard.pointer.name, 8).offset,
        base: guard.base && find(guard.base.name, 8).offset,
        added: Number(BigInt.asUintN(12, guard.offset)),
      }));
      return { kind, offset, bytes, guards };
    }),
  };
}

function kindOf({ type, count }: ProgramArgument): KernelField['kind'] {
  if (type === 'string') return 'string';
  return count === undefined ? 'integer' : 'array';
}

function unexpected(text: string, name: string): TraplineError {
  return new TraplineError({
    code: 'unsupported',
    message: `the kernel describes the field ${name} of an event in a way that is not known`,
    hint: text,
  });
}
