//! With `transformers` at hand: models it makes here and now, and whether it reads what is exported.
