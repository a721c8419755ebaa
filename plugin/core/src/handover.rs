//! The handover: values go to Vault once, the record moves the authority, the witnesses mirror the record.
//!
//! ```text
//! plan::Draft     the root opened by a ruling of values: what would be copied, listed, refused
//! decide::decide  the record's key, K, where we are, what a person decided  ->  the next step, or why there is none
//! plan::Plan      the draft beside what Vault holds; its digest is what a person approves
//! rights::Policy  what a token may do in Vault, and when that is known without asking for each key
//! record::Record  what is written last in Vault; both witnesses come from it alone
//! ```
//! The decision is made anew after each write, so a run that was cut off between any two is gone on with by the next.

pub mod copy;
pub mod decide;
pub mod plan;
pub mod record;
pub mod rights;
pub mod tree;
