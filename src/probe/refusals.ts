/** What is said about a definition that can't be accepted, and where the caret goes. */

import { TraplineError } from '../base/errors.ts';

/**
 * The classes of refusal. The wording of those that the kernel has too is the kernel's own (the ERRORS
 * table of kernel/trace/trace_probe.h), so that who knows its `error_log` knows ours.
 */
export const REFUSALS = {
  // The kernel's.
  badOffset: 'Invalid uprobe offset',
  badAddressSuffix: 'Invalid probed address suffix',
  referenceOpen: 'Reference counter brace is not closed',
  badReferenceSuffix: 'Reference counter has wrong suffix',
  badReference: 'Invalid reference counter offset',
  noGroupName: 'Group name is not specified',
  groupTooLong: 'Group name is too long',
  badGroupName: 'Group name must follow the same rules as C identifiers',
  noEventName: 'Event name is not specified',
  eventTooLong: 'Event name is too long',
  badEventName: 'Event name must follow the same rules as C identifiers',
  retvalOnProbe: '$retval is not available on probe',
  badStackNumber: 'Invalid stack number',
  badArgumentNumber: 'Invalid argument number',
  badVariable: 'Invalid $-variable specified',
  badRegister: 'Invalid register name',
  tooManyDereferences: 'Dereference is too much nested',
  dereferenceNeedsBrace: 'Dereference needs a brace',
  badDereferenceOffset: 'Invalid dereference offset',
  dereferenceOpen: 'Dereference brace is not closed',
  commDereferenced: '$comm can not be dereferenced',
  badFetch: 'Invalid fetch argument',
  badMemoryAddress: 'Invalid memory address',
  badFileOffset: 'Invalid file offset value',
  symbolOnProbe: 'Symbol is not available with uprobe',
  badImmediate: 'Invalid immediate value',
  textOpen: "String is not closed with '\"'",
  badType: 'Unknown type is specified',
  arrayOpen: 'Array is not closed',
  badArraySuffix: 'Array has wrong suffix',
  badArrayNumber: 'Invalid array size',
  arrayTooBig: 'Array number is too big',
  badBitField: 'Invalid bitfield',
  stringOfRegister: 'String accepts only memory argument',
  needsString: '$comm and immediate-string only accepts string type',
  argumentNameTooLong: 'Argument name is too long',
  noArgumentName: 'Argument name is not specified',
  badArgumentName: 'Argument name must follow the same rules as C identifiers',
  usedArgumentName: 'This argument name is already used',
  argumentTooLong: 'Argument expression is too long',
  noArgumentBody: 'No argument expression',
  eventTooBig: 'Event too big (too many fields?)',
  tooManyArguments: 'Too many arguments are specified',
  // Ours: the kernel's language has no functions, files by name or quotes.
  empty: 'The probe is not specified',
  noFile: 'The file is not specified',
  noFunction: 'The function is not specified',
  noLocation: 'The probe names no file',
  colonInFile: "A ':' in the name of a file must stand in quotes",
  quoteOpen: 'The quote is not closed',
  escapeOpen: 'Nothing follows the backslash',
  nulCharacter: 'A NUL character is not possible here',
  noEvent: 'The event to be removed is not specified',
  badMaxActive: 'The number of active instances is not a number',
  badAddress: 'Invalid address',
  badProcess: 'Invalid process',
  badInode: 'Invalid inode',
  functionInMiddle: 'A return probe is of a whole function',
  noFilter: 'No filter found',
  // Filters: the kernel's (kernel/trace/trace_events_filter.c).
  invalidOperator: 'Invalid operator',
  tooManyOpen: "Too many '('",
  tooManyClose: "Too few '('",
  missingQuote: 'Missing matching quote',
  operandTooLong: 'Operand too long',
  expectString: 'Expecting string field',
  expectDigit: 'Expecting numeric field',
  illegalFieldOperator: 'Illegal operation for field type',
  fieldNotFound: 'Field not found',
  illegalInteger: 'Illegal integer value',
  tooManyTerms: 'Too many terms in predicate expression',
  invalidValue: 'Invalid value (did you forget quotes)?',
  missingTerm: 'Meaningless filter expression',
  // A multi-probe event: the kernel's.
  eventExists: 'Given group/event name is already used by another event',
  differentProbeType: 'Probe type is different from existing probe',
  differentArguments: 'Argument type or name is different from existing probe',
  sameProbe: 'There is already the exact same probe event',
} as const;

/** The name of a class of refusal. */
export type Refusal = keyof typeof REFUSALS;

/**
 * Makes the error for a definition that is refused.
 * @param text the whole definition, as it was written.
 * @param column index in `text` of the first offending character; `text.length` where something is
 * missing at its end.
 * @returns an error with code `bad-definition`, to be thrown.
 */
export function refusal(text: string, column: number, what: Refusal, hint?: string): TraplineError {
  return new TraplineError({
    code: 'bad-definition',
    message: REFUSALS[what],
    position: { text, column },
    ...(hint === undefined ? {} : { hint }),
  });
}
