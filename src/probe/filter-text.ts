/** The text of event filters: the kernel's language (kernel/trace/trace_events_filter.c). */

import { unreachable } from '../base/errors.ts';
import {
  integerTypeOf,
  isTextValue,
  withinType,
  type FilterOperator,
  type FilterTree,
  type FilterValue,
} from './filter.ts';
import { parseSigned, parseUnsigned } from './numbers.ts';
import { globPattern, literalPattern } from './pattern.ts';
import type { ProgramArgument } from './program.ts';
import { refusal, type Refusal } from './refusals.ts';
import type { Word } from './tokens.ts';

/** The most terms of one filter: what comes of them is straight-line code in the target. */
const MAX_TERMS = 256;
/** The deepest nesting of parentheses and `!`. */
const MAX_DEPTH = 256;
/** One more than the bytes that a text may have (MAX_FILTER_STR_VAL). */
const TEXT_LIMIT = 256;
/** One more than the characters that a number may have. */
const NUMBER_LIMIT = 24;
/** `<=` before `<`. */
const OPERATORS: readonly (FilterOperator | '~')[] = ['~', '!=', '==', '<=', '<', '>=', '>', '&'];

const COMMON_FIELDS: ReadonlyMap<string, FilterValue> = new Map([
  ['common_pid', { kind: 'task' }],
  ['cpu', { kind: 'processor' }],
  ['CPU', { kind: 'processor' }],
  ['common_cpu', { kind: 'processor' }],
  ['comm', { kind: 'comm' }],
  ['COMM', { kind: 'comm' }],
  ['__probe_ip', { kind: 'site' }],
]);

/**
 * Parses a filter.
 * @param text the whole text around it, for errors.
 * @param fields the arguments that it may name.
 * @throws TraplineError `bad-definition`, with the kernel's wording.
 */
export function parseFilter(
  text: string,
  expression: Word,
  fields: readonly ProgramArgument[],
): FilterTree {
  return new FilterParser(text, expression, fields).parse();
}

/** Writes a filter so that {@link parseFilter} reads the same tree. */
export function printFilter(filter: FilterTree): string {
  switch (filter.kind) {
    case 'all':
      return filter.terms.map(printTerm).join(' && ');
    case 'any':
      return filter.terms.map(printTerm).join(' || ');
    case 'not':
      return `!(${printFilter(filter.term)})`;
    case 'compare':
      return `${nameOf(filter.value)} ${filter.operator} ${filter.operand}`;
    case 'match': {
      const quote = filter.text.includes('"') ? "'" : '"';
      return `${nameOf(filter.value)} ${filter.operator} ${quote}${filter.text}${quote}`;
    }
    default:
      return unreachable(filter);
  }
}

function printTerm(term: FilterTree): string {
  return term.kind === 'all' || term.kind === 'any' ? `(${printFilter(term)})` : printFilter(term);
}

function nameOf(value: FilterValue): string {
  if (value.kind === 'argument') return value.argument.name;
  const names = { task: 'common_pid', processor: 'CPU', site: '__probe_ip', comm: 'COMM' } as const;
  return names[value.kind];
}

class FilterParser {
  readonly #text: string;
  readonly #source: string;
  readonly #column: number;
  readonly #fields: ReadonlyMap<string, FilterValue>;
  #at = 0;
  #terms = 0;

  constructor(text: string, { text: source, column }: Word, fields: readonly ProgramArgument[]) {
    this.#text = text;
    this.#source = source;
    this.#column = column;
    this.#fields = new Map([
      ...COMMON_FIELDS,
      ...fields.map((argument) => [argument.name, { kind: 'argument', argument }] as const),
    ]);
  }

  parse(): FilterTree {
    this.#balance();
    if (this.#source.trim() === '') this.#fail('noFilter', this.#source.length);
    const tree = this.#any(0);
    // Balanced: nothing but the end can be left.
    return tree;
  }

  /** Parentheses and quotes first of all, as the kernel does (calc_stack). */
  #balance(): void {
    const open: number[] = [];
    let quote = '';
    let quotedAt = 0;
    Array.from({ length: this.#source.length }, (_, at) => {
      const character = this.#source.charAt(at);
      if (quote !== '') {
        if (character === quote) quote = '';
      } else if (character === '"' || character === "'") {
        quote = character;
        quotedAt = at;
      } else if (character === '(') {
        open.push(at);
      } else if (character === ')' && open.pop() === undefined) {
        this.#fail('tooManyClose', at);
      }
    });
    if (quote !== '') this.#fail('missingQuote', quotedAt);
    const unclosed = open.at(-1);
    if (unclosed !== undefined) this.#fail('tooManyOpen', unclosed);
  }

  #any(depth: number): FilterTree {
    return this.#joined('any', '||', () => this.#joined('all', '&&', () => this.#unary(depth)));
  }

  #joined(kind: 'any' | 'all', sign: '||' | '&&', part: () => FilterTree): FilterTree {
    const first = part();
    const terms = [first];
    while (this.#takes(sign)) terms.push(part());
    return terms.length === 1 ? first : { kind, terms };
  }

  #unary(depth: number): FilterTree {
    this.#skipWhite();
    if (depth > MAX_DEPTH)
      this.#fail('tooManyTerms', this.#at, `the deepest nesting is ${MAX_DEPTH}`);
    if (this.#source.charAt(this.#at) === '!' && !/[=~]/.test(this.#source.charAt(this.#at + 1))) {
      this.#at++;
      return { kind: 'not', term: this.#unary(depth + 1) };
    }
    if (this.#source.charAt(this.#at) !== '(') return this.#behind(this.#term());
    this.#at++;
    const inner = this.#any(depth + 1);
    this.#at++; // balanced: it is the ')'
    return this.#behind(inner);
  }

  /** Holds what stands behind a term against the grammar. */
  #behind(term: FilterTree): FilterTree {
    this.#skipWhite();
    const rest = this.#source.slice(this.#at, this.#at + 2);
    if (rest !== '' && rest !== '&&' && rest !== '||' && !rest.startsWith(')')) {
      this.#fail('tooManyTerms', this.#at, 'join terms by && or ||');
    }
    return term;
  }

  #term(): FilterTree {
    const start = this.#at;
    const name = /^\w*/.exec(this.#source.slice(start))?.[0] ?? '';
    if (name === '') this.#fail('missingTerm', start, 'a term is FIELD OPERATOR VALUE');
    if (++this.#terms > MAX_TERMS) this.#fail('tooManyTerms', start, `the most is ${MAX_TERMS}`);
    const value = this.#fields.get(name);
    if (value === undefined) {
      return this.#fail(
        'fieldNotFound',
        start,
        `the fields are ${[...this.#fields.keys()].join(' ')}`,
      );
    }
    this.#at += name.length;
    // Which of the two memories a pointer is of; all that is fetched is the user's, and lies in the record.
    if (this.#source.startsWith('.ustring', this.#at)) this.#at += '.ustring'.length;
    this.#skipWhite();
    const operator = OPERATORS.find((sign) => this.#source.startsWith(sign, this.#at));
    if (operator === undefined) {
      return this.#fail('invalidOperator', this.#at, `the operators are ${OPERATORS.join(' ')}`);
    }
    this.#at += operator.length;
    this.#skipWhite();
    const first = this.#source.charAt(this.#at);
    if (first === '"' || first === "'") return this.#match(value, operator, first);
    if (/^[-0-9]$/.test(first)) return this.#compare(value, operator);
    return this.#fail('invalidValue', this.#at);
  }

  #match(value: FilterValue, operator: FilterOperator | '~', quote: string): FilterTree {
    const start = this.#at;
    if (operator !== '==' && operator !== '!=' && operator !== '~') {
      return this.#fail('illegalFieldOperator', start, 'text is compared by == != and ~');
    }
    if (!isTextValue(value)) return this.#fail('expectDigit', start);
    const end = this.#source.indexOf(quote, start + 1);
    const text = this.#source.slice(start + 1, end);
    if (Buffer.byteLength(text) >= TEXT_LIMIT) this.#fail('operandTooLong', end);
    this.#at = end + 1;
    const isGlob = operator === '~';
    const isInverse = isGlob && text.startsWith('!');
    const pattern = isGlob ? globPattern(isInverse ? text.slice(1) : text) : literalPattern(text);
    return {
      kind: 'match',
      value,
      operator,
      text,
      pattern,
      isNegated: isInverse || operator === '!=',
    };
  }

  #compare(value: FilterValue, operator: FilterOperator | '~'): FilterTree {
    const start = this.#at;
    if (isTextValue(value)) return this.#fail('expectString', start, 'put it in quotes');
    const type = integerTypeOf(value);
    if (operator === '~' || type === undefined) {
      const hint =
        operator === '~'
          ? 'only text fits a pattern'
          : 'an array is compared where it has 1, 2, 4 or 8 bytes';
      return this.#fail('illegalFieldOperator', start, hint);
    }
    const digits =
      /^-?[A-Za-z0-9]*/.exec(this.#source.slice(start, start + NUMBER_LIMIT))?.[0] ?? '';
    if (digits.length >= NUMBER_LIMIT) this.#fail('operandTooLong', start + digits.length);
    const number = type.isSigned ? parseSigned(digits) : parseUnsigned(digits);
    if (number === undefined) return this.#fail('illegalInteger', start);
    this.#at += digits.length;
    return { kind: 'compare', value, operator, operand: withinType(number, type) };
  }

  #takes(sign: string): boolean {
    this.#skipWhite();
    if (!this.#source.startsWith(sign, this.#at)) return false;
    this.#at += sign.length;
    return true;
  }

  #skipWhite(): void {
    while (/^\s$/.test(this.#source.charAt(this.#at))) this.#at++;
  }

  #fail(what: Refusal, at: number, hint?: string): never {
    throw refusal(this.#text, this.#column + at, what, hint);
  }
}
