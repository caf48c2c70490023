"""What vendors vouch for: roots, intermediates, CRLs and collateral, and the one seam through which they are fetched."""
