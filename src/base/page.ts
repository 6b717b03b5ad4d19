/** Pages: the units in which memory is mapped and protected. */

/** Bytes of a page of x86-64 (Intel SDM volume 3, 4.5.4). */
export const PAGE_BYTES = 4096;

const PAGE = BigInt(PAGE_BYTES);

/** The start of the page that an address lies in; below 0, too, where a difference of addresses may come. */
export function pageDown(at: bigint): bigint {
  return at & ~(PAGE - 1n);
}

/** The address itself where a page starts, else the start of the next page. */
export function pageUp(at: bigint): bigint {
  return pageDown(at + PAGE - 1n);
}

/** Bytes from an address to the end of its page: 1 to {@link PAGE_BYTES}. */
export function leftInPage(at: bigint): number {
  return PAGE_BYTES - Number(at & (PAGE - 1n));
}

/** So many bytes in whole pages. */
export function wholePages(bytes: number): number {
  return Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES;
}
