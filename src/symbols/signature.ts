/** The parts of a demangled C++ signature, by its brackets. */

const OPENING = '(<[{';
const CLOSING = ')>]}';
const ANONYMOUS = '(anonymous namespace)';

/**
 * `ns::Class::method` of `int ns::Class::method<int>(char) const`: without parameters, qualifiers
 * behind them and (of templates, the only functions that have one here) the return type. What the
 * compiler did to a copy (` [clone .cold]`) stays: a part of a function is not the function.
 */
export function withoutParameters(signature: string): string {
  const cloneAt = signature.indexOf(' [clone ');
  const text = cloneAt < 0 ? signature : signature.slice(0, cloneAt);
  const clone = cloneAt < 0 ? '' : signature.slice(cloneAt);
  const { parameters, lastSpace } = scan(text);
  const head = text.slice(0, parameters);
  // Only templates are mangled with their return type (Itanium C++ ABI, 5.1.5.3).
  const isTemplate = head.endsWith('>') && !/operator(->|->\*|>|>>|<=>|-?>)$/.test(head);
  return (isTemplate && lastSpace >= 0 ? head.slice(lastSpace + 1) : head) + clone;
}

/** Finds where the parameters begin, and the last space before the name outside all brackets. */
function scan(text: string): { parameters: number; lastSpace: number } {
  let lastSpace = -1;
  let inOperator = false;
  for (let at = 0; at < text.length; at++) {
    const operator = operatorAt(text, at);
    if (operator > 0) {
      inOperator = true;
      at += operator - 1;
      continue;
    }
    const character = text.charAt(at);
    if (character === ' ' && !inOperator && !text.startsWith(' const::', at)) lastSpace = at;
    if (text.startsWith('::', at)) inOperator = false;
    if (!OPENING.includes(character)) continue;
    const end = closing(text, at);
    if (character === '(' && !text.startsWith(ANONYMOUS, at) && !isInside(text, at, end)) {
      return { parameters: at, lastSpace };
    }
    at = end;
  }
  return { parameters: text.length, lastSpace };
}

/** Whether brackets belong to an enclosing function (`f(int)::local`) or to `decltype (…)`. */
function isInside(text: string, start: number, end: number): boolean {
  if (/decltype ?$/.test(text.slice(Math.max(0, start - 9), start))) return true;
  return /^( const| volatile|&|&&| &| &&)*::/.test(text.slice(end + 1, end + 40));
}

/** The length of `operator` with its symbol when that stands at `at`, else 0. */
function operatorAt(text: string, at: number): number {
  if (!text.startsWith('operator', at) || /\w/.test(text.charAt(at - 1))) return 0;
  const symbol =
    /^operator ?(\(\)|\[\]|<=>|->\*|->|<<=|>>=|<<|>>|<=|>=|<|>|[-+*/%^&|~!=]+|,)?/.exec(
      text.slice(at, at + 16),
    )?.[0] ?? '';
  return /\w/.test(text.charAt(at + 8)) ? 0 : symbol.length;
}

/**
 * The index of the bracket that closes the one at `start`, or the last index of `text`. A `<` or
 * `>` that has no partner inside its own brackets is a comparison: `f<((4)>(3))>`.
 */
function closing(text: string, start: number): number {
  const open: string[] = [];
  for (let at = start; at < text.length; at++) {
    const operator = operatorAt(text, at);
    if (operator > 0) {
      at += operator - 1;
      continue;
    }
    const character = text.charAt(at);
    if (OPENING.includes(character)) open.push(character);
    const partner = OPENING.charAt(CLOSING.indexOf(character));
    // The arrow of a trailing return type closes nothing.
    if (!CLOSING.includes(character) || text.charAt(at - 1) === '-') continue;
    closePartner(open, partner);
    if (open.length === 0) return at;
  }
  return text.length - 1;
}

/** Takes the partner of a closing bracket, and comparisons above it, from the stack. */
function closePartner(open: string[], partner: string): void {
  if (partner !== '<') while (open.at(-1) === '<') open.pop();
  if (open.at(-1) === partner) open.pop();
}

/** One spelling of a signature: no space that doesn't stand between two words. */
export function normalizeSpaces(signature: string): string {
  return signature
    .trim()
    .replace(/(\W)\s+|\s+(?=\W)/g, '$1')
    .replace(/\s+/g, ' ');
}
