/** The shell's globs, for function names: `*`, `?` and `[…]`. */

/**
 * Compiles a glob. `*` any run of characters (none included), `?` one character, `[a-z]` and `[!a-z]`
 * one of, or none of, a set; a backslash takes the next character as it is. As fnmatch(3) without
 * FNM_PATHNAME. An unclosed `[` is an ordinary character, as in the shell.
 * @returns a function that tells whether a whole name matches, in time linear in its length for
 * every glob with one star, and bounded by name × glob for all.
 */
export function compileGlob(glob: string): (name: string) => boolean {
  const tokens = tokenize(glob);
  return (name) => match(tokens, name);
}

type Token = '*' | ((character: string) => boolean);

function tokenize(glob: string): Token[] {
  const tokens: Token[] = [];
  for (let at = 0; at < glob.length; at++) {
    const character = glob.charAt(at);
    if (character === '*') {
      if (tokens.at(-1) !== '*') tokens.push('*');
    } else if (character === '?') {
      tokens.push(() => true);
    } else if (character === '[') {
      const set = characterSet(glob, at);
      tokens.push(set === undefined ? (other) => other === '[' : set.test);
      if (set !== undefined) at = set.end;
    } else {
      const literal = character === '\\' && at + 1 < glob.length ? glob.charAt(++at) : character;
      tokens.push((other) => other === literal);
    }
  }
  return tokens;
}

function characterSet(
  glob: string,
  start: number,
): { test: (character: string) => boolean; end: number } | undefined {
  let at = start + 1;
  const negated = glob.charAt(at) === '!' || glob.charAt(at) === '^';
  if (negated) at++;
  // POSIX: a ] that stands first belongs to the set.
  const end = glob.indexOf(']', at + 1);
  if (end < 0) return undefined;
  const ranges: [string, string][] = [];
  while (at < end) {
    const low = glob.charAt(at);
    if (glob.charAt(at + 1) === '-' && at + 2 < end) {
      ranges.push([low, glob.charAt(at + 2)]);
      at += 3;
    } else {
      ranges.push([low, low]);
      at++;
    }
  }
  const inside = (character: string): boolean =>
    ranges.some(([low, high]) => character >= low && character <= high);
  return { test: (character) => inside(character) !== negated, end };
}

/** Backtracks to the last star only, which is enough for globs: name × tokens steps at most. */
function match(tokens: readonly Token[], name: string): boolean {
  let token = 0;
  let at = 0;
  let starToken = -1;
  let starAt = 0;
  while (at < name.length) {
    const current = tokens[token];
    if (current === '*') {
      starToken = token++;
      starAt = at;
    } else if (current !== undefined && current(name.charAt(at))) {
      token++;
      at++;
    } else if (starToken >= 0) {
      token = starToken + 1;
      at = ++starAt;
    } else {
      return false;
    }
  }
  while (tokens[token] === '*') token++;
  return token === tokens.length;
}
