#!/bin/sh
# Recreate src/refunds/domain/currencies.py from the iso4217 package. Importing the package itself would
# take a tenth of a cold start. tests/unit/domain/test_money.py compares the two.
set -eu

cd "$(dirname "$0")/.."
.venv/bin/python - <<'PYTHON' > src/refunds/domain/currencies.py
import iso4217

print('"""ISO 4217: each currency\'s decimal places. Written by ops/currencies.sh; not edited by hand.')
print()
print("Funds codes, metals and test codes (XDR, XAU, XTS, …) have no minor unit, so nothing can be")
print('refunded in them, and they are not here.')
print('"""')
print()
print("from __future__ import annotations")
print()
print("EXPONENTS: dict[str, int] = {")
for currency in sorted(iso4217.Currency, key=lambda each: each.code):
    if currency.exponent is not None:
        print(f'    "{currency.code}": {currency.exponent},')
print("}")
PYTHON
