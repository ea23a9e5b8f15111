#!/bin/sh
# Write src/refunds/domain/currencies.py from the iso4217 package, whose import alone would take a
# tenth of a cold start. tests/unit/domain/test_money.py compares the two.
#
# A currency that has left the package's list since the last run moves to WITHDRAWN, so no currency
# that payments were once made in is ever lost.
set -eu

cd "$(dirname "$0")/.."
.venv/bin/python - <<'PYTHON'
from pathlib import Path

import iso4217

from refunds.domain.currencies import EXPONENTS

current = {
    currency.code: currency.exponent
    for currency in iso4217.Currency
    if currency.exponent is not None
}
withdrawn = {code: exponent for code, exponent in EXPONENTS.items() if code not in current}


def table(exponents: dict[str, int]) -> str:
    return "".join(f'    "{code}": {exponents[code]},\n' for code in sorted(exponents))


Path("src/refunds/domain/currencies.py").write_text(f'''"""ISO 4217: each currency's decimal places. Written by ops/currencies.sh; not edited by hand.

Funds codes, metals and test codes (XDR, XAU, XTS, …) have no minor unit, so nothing can be
refunded in them, and they are not here.
"""

from __future__ import annotations

CURRENT: dict[str, int] = {{
{table(current)}}}

# ISO's list of historic codes (list three) names no minor units. These are the last that ISO gave
# each code, as the JDK keeps them (java.base, currency.properties, JDK 17.0.15). Codes that were
# withdrawn before 1997 are not in it: no card payment was made in them.
WITHDRAWN: dict[str, int] = {{
{table(withdrawn)}}}
"""Currencies that no payment is made in any more. Payments that were made in them can be refunded,
and their records are shown with the right decimals."""

EXPONENTS: dict[str, int] = CURRENT | WITHDRAWN
''')
PYTHON
