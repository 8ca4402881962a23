//! What is wrong with a file is said in one line.
