/** Numbers as the kernel reads them with base 0 (lib/kstrtox.c). */

const UNSIGNED = /^(?:0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)$/;

const S64_MIN = -(1n << 63n);
const S64_MAX = (1n << 63n) - 1n;

/**
 * Reads a number without a sign: decimal, `0x` for hexadecimal, a leading `0` for octal.
 * @returns undefined where the text is anything else, or more than 64 bits.
 */
export function parseUnsigned(text: string): bigint | undefined {
  if (text.length > 64 || !UNSIGNED.test(text)) return undefined;
  const octal = text.length > 1 && /^0[0-7]/.test(text);
  const value = BigInt(octal ? `0o${text}` : text);
  return BigInt.asUintN(64, value) === value ? value : undefined;
}

/**
 * Reads a number as {@link parseUnsigned} does, with a `+` before it if need be (kstrtoul).
 * @returns undefined where the text is anything else, or more than 64 bits.
 */
export function parsePositive(text: string): bigint | undefined {
  return parseUnsigned(text.startsWith('+') ? text.slice(1) : text);
}

/**
 * Reads a number as {@link parseUnsigned} does, with one sign before it if need be (kstrtol).
 * @returns undefined where the text is anything else, or does not fit 64 bits with the sign.
 */
export function parseSigned(text: string): bigint | undefined {
  const sign = /^[+-]/.exec(text)?.[0];
  const magnitude = parseUnsigned(sign === undefined ? text : text.slice(1));
  if (magnitude === undefined) return undefined;
  const value = sign === '-' ? -magnitude : magnitude;
  return value >= S64_MIN && value <= S64_MAX ? value : undefined;
}

/** Writes a magnitude in whichever of decimal and `0x` is shorter; decimal where both are as long. */
export function printMagnitude(value: bigint): string {
  const decimal = value.toString();
  const hexadecimal = `0x${value.toString(16)}`;
  return hexadecimal.length < decimal.length ? hexadecimal : decimal;
}
