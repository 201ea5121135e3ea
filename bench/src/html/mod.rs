//! Reports as pages: the figures of a document, and the same seconds as plots.
//!
//! A page is a function of the document and shows nothing else, so whatever is read off it can be
//! found there; the tests read the drawings back and compare. What is drawn is here; what a figure
//! means is said where it is computed.

pub mod bars;
mod locality;
pub mod markup;
pub mod page;
mod parts;
pub mod plot;
mod run;
pub mod scale;

pub use locality::locality_page;
pub use run::run_page;

#[cfg(test)]
mod read_back;
