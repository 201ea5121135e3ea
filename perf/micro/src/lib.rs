//! The hot pieces of Quorate by themselves: the same code for the clock (`benches/pieces.rs`) and for a counter of
//! instructions (`perf/instructions`).

#![forbid(unsafe_code)]

mod history;
mod pieces;
mod world;

pub use pieces::{KINDS, Piece, piece};
