//! What a cross-shard transfer costs on this cluster, as the load generator has measured it: kept in the catalog beside the
//! plans, so that later ones are made with it.

use quorate_protocol::shard::catalog::PutAnswer;
use serde::{Deserialize, Serialize};

use super::shelf::{COST, ShelfError};
use crate::catalog::Catalog;

/// A measurement.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeasuredCost {
    /// A local transfer being 1.
    pub cross_cost: f64,
    /// Nanoseconds since 1970 on the tool's host.
    pub measured_unix_ns: u64,
}

/// The last measurement; `None` if there was none.
///
/// # Errors
/// There is no answer, or it cannot be read.
pub fn remembered(catalog: &mut impl Catalog) -> Result<Option<MeasuredCost>, ShelfError> {
    let document = catalog.document(COST)?;
    if !document.is_there() {
        return Ok(None);
    }
    let cost = serde_json::from_slice(&document.bytes);
    cost.map(Some)
        .map_err(|error| ShelfError::Unreadable(error.to_string()))
}

/// Keeps a measurement in the place of the last one; of two at the same time one is kept.
///
/// # Errors
/// There is no answer, or no room.
pub fn remember(catalog: &mut impl Catalog, cost: MeasuredCost) -> Result<(), ShelfError> {
    let version = catalog.document(COST)?.version;
    let bytes =
        serde_json::to_vec(&cost).map_err(|error| ShelfError::Unreadable(error.to_string()))?;
    match catalog.put_document(COST, version, &bytes)? {
        PutAnswer::Written { .. } | PutAnswer::Conflict { .. } => Ok(()),
        PutAnswer::Full => Err(ShelfError::Full),
    }
}

#[cfg(test)]
mod tests {
    use super::super::shelf::tests::Written;
    use super::*;

    #[test]
    fn the_last_measurement_is_remembered_beside_the_plans() {
        let mut catalog = Written::default();
        assert_eq!(remembered(&mut catalog).unwrap(), None);
        for cross_cost in [1.5, 2.25] {
            let cost = MeasuredCost {
                cross_cost,
                measured_unix_ns: 7,
            };
            remember(&mut catalog, cost).unwrap();
            assert_eq!(remembered(&mut catalog).unwrap(), Some(cost));
        }
    }
}
