/**
 * Machine code for event filters. The early part looks at registers only and comes before anything is
 * reserved: a hit that it refuses costs no more than its comparison. The late part reads memory, into bytes
 * of the ring that are given back if it refuses.
 */

import { ensure, unreachable } from '../../base/errors.ts';
import { ContextHeader } from '../../events/layout.ts';
import {
  integerTypeOf,
  valuesOf,
  type FilterTree,
  type FilterValue,
  type IntegerType,
  type ProgramFilter,
} from '../../probe/filter.ts';
import { matchesPattern } from '../../probe/pattern.ts';
import { mem, negated, type Condition, type Label } from '../../x64/operands.ts';
import { inRecord } from './access.ts';
import type { EmitContext } from './emit-context.ts';
import { emitLoadArgument, liveRegister } from './fetch-code.ts';
import { isMemory, isTaskName, type FilterPlace, type ReadPlan } from './reads.ts';
import { emitPattern } from './pattern-code.ts';
import { emitScan } from './scan-code.ts';

/** A filter in its two parts; both must hold. */
export interface SplitFilter {
  readonly early: readonly ProgramFilter[];
  readonly late: ProgramFilter | undefined;
}

/** Splits a filter at what joins its parts: a part that needs no memory is asked first. */
export function splitFilter(filter: ProgramFilter | undefined): SplitFilter {
  const parts = filter === undefined ? [] : joined(filter);
  const late = parts.filter(isLate);
  return {
    early: parts.filter((part) => !isLate(part)),
    late: late.length > 1 ? { kind: 'both', filters: late } : late[0],
  };
}

function joined(filter: ProgramFilter): readonly ProgramFilter[] {
  if (filter.kind === 'both') return filter.filters.flatMap(joined);
  return filter.kind === 'all' ? filter.terms.flatMap(joined) : [filter];
}

function isLate(filter: ProgramFilter): boolean {
  return valuesOf(filter).some(
    (value) => isTaskName(value) || (value.kind === 'argument' && isMemory(value.argument.fetch)),
  );
}

/**
 * Jumps to `target` if the filter holds, or does not, as `when` says; falls through otherwise. Clobbers rax
 * and rdx; with a plan, which the late part has, rdi and r11, too.
 */
export function emitFilter(
  context: EmitContext,
  filter: ProgramFilter,
  target: Label,
  when: boolean,
  plan?: ReadPlan,
): void {
  const { code } = context;
  switch (filter.kind) {
    case 'both':
      emitJoined(context, filter.filters, target, when, true, plan);
      return;
    case 'all':
    case 'any':
      emitJoined(context, filter.terms, target, when, filter.kind === 'all', plan);
      return;
    case 'not':
      emitFilter(context, filter.term, target, !when, plan);
      return;
    case 'tasks':
      emitTasks(context, filter.tids, target, when);
      return;
    case 'compare':
    case 'match': {
      const behind = code.label('behind');
      if (filter.kind === 'compare') emitCompare(context, filter, target, when, behind, plan);
      else emitMatch(context, filter, when ? target : behind, when ? behind : target, plan);
      code.bind(behind);
      return;
    }
    default:
      unreachable(filter);
  }
}

/** All of them, or any: the first that decides ends it. */
function emitJoined(
  context: EmitContext,
  terms: readonly ProgramFilter[],
  target: Label,
  when: boolean,
  isAll: boolean,
  plan: ReadPlan | undefined,
): void {
  const { code } = context;
  const skip = code.label('skip');
  terms.forEach((term, index) => {
    // What decides early: a term of `all` that fails, one of `any` that holds.
    const isLast = index === terms.length - 1;
    if (when === !isAll || isLast) emitFilter(context, term, target, when, plan);
    else emitFilter(context, term, skip, !when, plan);
  });
  code.bind(skip);
}

function emitTasks(
  { code }: EmitContext,
  tids: readonly number[],
  target: Label,
  when: boolean,
): void {
  const found = code.label('found');
  code.mov('eax', mem({ base: 'rcx', displacement: ContextHeader.tid }));
  for (const tid of tids) code.cmp('eax', tid).jcc('e', when ? target : found, 'near');
  if (!when) code.jmp(target, 'near');
  code.bind(found);
}

const UNSIGNED = {
  '==': 'e',
  '!=': 'ne',
  '<': 'b',
  '<=': 'be',
  '>': 'a',
  '>=': 'ae',
  '&': 'ne',
} as const;
const SIGNED = { ...UNSIGNED, '<': 'l', '<=': 'le', '>': 'g', '>=': 'ge' } as const;

type Comparison = Extract<FilterTree, { readonly kind: 'compare' }>;

/** @param behind bound to where it falls through. */
function emitCompare(
  context: EmitContext,
  { value, operator, operand }: Comparison,
  target: Label,
  when: boolean,
  behind: Label,
  plan: ReadPlan | undefined,
): void {
  const { code } = context;
  const type = integerTypeOf(value);
  ensure(type !== undefined, 'only integers are compared');
  const condition: Condition = (type.isSigned ? SIGNED : UNSIGNED)[operator];
  const place = plan?.placeOf(value);
  if (place === undefined) {
    emitOperands(context, value, type, operand, operator === '&');
  } else {
    emitArrival(context, place, when ? behind : target);
    emitPlaceOperand(context, value, place, type);
    emitAgainst(context, 'rax', type, operand, operator === '&');
  }
  code.jcc(when ? condition : negated(condition), target, 'near');
}

/** A value that did not arrive whole makes its term fail. */
function emitArrival({ code }: EmitContext, { read }: FilterPlace, no: Label): void {
  if (read === undefined) return;
  code.cmp(inRecord(read.local + 8, 8), read.bytes).jcc('ne', no, 'near');
}

function emitPlaceOperand(
  { code }: EmitContext,
  value: FilterValue,
  { at }: FilterPlace,
  type: IntegerType,
): void {
  code.mov('rax', inRecord(at));
  if (value.kind !== 'argument' || value.argument.bits === undefined) return;
  const { bits, count, type: element } = value.argument;
  if (count === undefined) {
    code.shl('rax', 64 - bits.offset - bits.width).shr('rax', 64 - bits.width);
    return;
  }
  // Each element's bits, shifted down within it.
  const width = Number(element.slice(1));
  let mask = 0n;
  for (let from = 0; from < type.width; from += width) {
    mask |= ((1n << BigInt(bits.width)) - 1n) << BigInt(from);
  }
  if (bits.offset > 0) code.shr('rax', bits.offset);
  code.mov('rdx', mask).and('rax', 'rdx');
}

/** Compares a value that is no memory with the operand. */
function emitOperands(
  context: EmitContext,
  value: FilterValue,
  type: IntegerType,
  operand: bigint,
  isTest: boolean,
): void {
  const { code, parts } = context;
  switch (value.kind) {
    case 'task':
      code.mov('eax', mem({ base: 'rcx', displacement: ContextHeader.tid }));
      break;
    case 'processor':
      context.emitProcessor();
      break;
    case 'site':
      code.mov('rax', parts.site);
      break;
    case 'comm':
      ensure(false, 'a name is not compared with a number');
      break;
    case 'argument': {
      const { argument } = value;
      const live = argument.bits === undefined ? liveRegister(context, argument.fetch) : undefined;
      if (live !== undefined && type.width === 64) {
        emitAgainst(context, live, type, operand, isTest);
        return;
      }
      emitLoadArgument(context, argument);
      break;
    }
    default:
      unreachable(value);
  }
  emitAgainst(context, 'rax', type, operand, isTest);
}

/** Sets the flags as a comparison of a register, taken as `type`, with the operand. Clobbers rax, rdx. */
function emitAgainst(
  { code }: EmitContext,
  register: NonNullable<ReturnType<typeof liveRegister>>,
  { width, isSigned }: IntegerType,
  operand: bigint,
  isTest: boolean,
): void {
  if (width < 32) {
    const part = width === 8 ? 'al' : 'ax';
    if (isSigned) code.movsx('eax', part);
    else code.movzx('eax', part);
  }
  if (width < 64) {
    // Sign-extended or zero-extended alike, the number fits 32 bits.
    const immediate = BigInt.asIntN(32, operand);
    if (isTest) code.test('eax', Number(immediate));
    else code.cmp('eax', Number(immediate));
    return;
  }
  const signed = BigInt.asIntN(64, operand);
  if (BigInt.asIntN(32, signed) === signed) {
    if (isTest) code.test(register, Number(signed));
    else code.cmp(register, Number(signed));
    return;
  }
  code.mov('rdx', BigInt.asUintN(64, operand));
  if (isTest) code.test(register, 'rdx');
  else code.cmp(register, 'rdx');
}

type Match = Extract<FilterTree, { readonly kind: 'match' }>;

/** Goes to `yes` or `no`, one of which is bound right behind. */
function emitMatch(
  context: EmitContext,
  { value, pattern, isNegated }: Match,
  yes: Label,
  no: Label,
  plan: ReadPlan | undefined,
): void {
  const { code } = context;
  const fits = isNegated ? no : yes;
  const fails = isNegated ? yes : no;
  if (value.kind === 'argument' && value.argument.fetch.kind === 'text') {
    const text = Buffer.from(value.argument.fetch.text);
    code.jmp(matchesPattern(pattern, text) ? fits : fails, 'near');
    return;
  }
  const place = plan?.placeOf(value);
  ensure(place !== undefined, 'text is matched in memory');
  const ended = code.label('ended');
  const unended = code.label('unended');
  if (place.read === undefined) code.mov('edi', place.bytes);
  else code.mov('rdi', inRecord(place.read.local + 8));
  code.lea('r11', inRecord(place.at));
  emitScan(code, ended, unended);
  // As far as it could be read there is no end, nor is it cut at its limit: nobody knows the text.
  code.bind(unended).cmp('rax', place.bytes).jcc('ne', no, 'near');
  code.bind(ended).mov('rdi', 'rax');
  emitPattern(context, pattern, fails);
  code.jmp(fits, 'near');
}
