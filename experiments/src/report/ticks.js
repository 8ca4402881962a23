"use strict";
// Ticks of zoomed ranges. Repeats `show/axis.rs`, because a page cannot call it; a test in `tests/report.rs` compares
// the two.
const axisTicks = (() => {
  // Repeats `format::significant` for finite numbers.
  const significant = (value, digits) => {
    if (value === 0) return "0";
    const scientific = value.toExponential(digits - 1).replace("e+", "e");
    const exponent = Number(scientific.split("e")[1]);
    return exponent < -3 || exponent > 5 ? scientific : value.toFixed(Math.max(digits - 1 - exponent, 0));
  };
  // Separates thousands in numbers of more than four digits.
  const grouped = (text) => (/^\d{5,}$/.test(text) ? text.replace(/\B(?=(\d{3})+$)/g, "\u202F") : text);
  const label = (value, step) => {
    const decimals = Math.max(-Math.floor(Math.log10(step * 1.001)), 0);
    if (decimals > 5) return significant(value, 4);
    if (Math.abs(value) >= 1e9) return significant(value, 3);
    return grouped(value.toFixed(decimals)).replace("-", "−");
  };
  const linear = (low, high, count, integer) => {
    const rough = (high - low) / Math.max(count, 1);
    if (!(rough > 0) || !isFinite(rough)) return [];
    const power = 10 ** Math.floor(Math.log10(rough));
    const round = power * ([1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999) ?? 10);
    const step = integer ? Math.max(round, 1) : round;
    const first = Math.ceil(low / step), number = Math.floor(high / step) - first + 1;
    if (!(number >= 0 && number <= 4 * Math.max(count, 1))) return [];
    return Array.from({ length: number }, (_, index) => {
      const value = (first + index) * step;
      return [value, label(value, step)];
    });
  };
  const log = (least, most, count) => {
    const every = Math.max(1, Math.ceil((most - least) / Math.max(count, 1)));
    const factors = most - least <= 1 && count >= 3 ? [1, 2, 5] : [1];
    const ticks = [];
    for (let exponent = least; exponent <= most; exponent += every)
      for (const factor of factors) {
        // Parses the text, because powers of ten are inexact in browsers.
        const value = Number(`${factor}e${exponent}`);
        if (value <= Number(`1e${most}`) * 1.000001) ticks.push([value, significant(value, 1)]);
      }
    return ticks;
  };
  return { linear, log, grouped };
})();
