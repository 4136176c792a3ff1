#!/usr/bin/env bash
# Make a small home with the code of a commit, and pack it: tests/homes/make.sh COMMIT FILE.tar.xz
# Needed: git, what `make setup` of that commit needs, and that there is no /tmp/shop.
set -euo pipefail
commit=$1 packed=$(realpath -m "$2") project=$(git -C "$(dirname "$0")" rev-parse --show-toplevel)
shop=/tmp/shop work=$(mktemp -d)  # tables name the files they are made of: by paths that are of no machine
mkdir $shop
trap 'git -C "$project" worktree remove --force "$work/code"; rm -rf "$shop" "$work"' EXIT
git -C "$project" worktree add --quiet --detach "$work/code" "$commit"
make --no-print-directory -C "$work/code" setup

# The lease names the machine and the process that held it: here neither is anybody's.
begin="import importlib.util, socket, sys
sys.argv[0], socket.gethostname = 'lakehouse', lambda: 'shop'
names = 'lakehouse.lease', 'lakehouse.releases.lease'
lease = importlib.import_module(next(name for name in names if importlib.util.find_spec(name)))
lease.this_process = lambda: ''
from deployments.entry import main
main()"
lakehouse() {
	env -i -C "$work/code" PATH="$PATH" HOME="$HOME" LAKEHOUSE_HOME=$shop/home SETTLE_SECONDS=0 LOGNAME=ana \
		.venv/bin/python -c "$begin" "$@"
}
run() { lakehouse run --no-prefect --source $shop/landing --min-rows-threshold 1 --min-support 0.03 "$@"; }

lakehouse sample --into $shop/landing --receipts 400 --days 20 --stores 2
run  # release 1
files=$shop/landing/transactions
printf '2024-01-05|103|7|1 2 3\n2024-01-06|103|8|4 5\n2024-13-01|103|9|6\n' > $files/103_Tran.csv
printf '\x89PNG\0\0\0' > $files/104_Tran.csv
if run; then exit 1; fi  # blocked: a third of a file is in quarantine
run --max-quarantine-pct 50  # release 2: that file, and one that is rejected
printf '2024-01-05|103|7|1 2 3 4\n2024-01-06|103|8|4 5\n2024-13-01|103|9|6\n' > $files/103_Tran.csv
run --max-quarantine-pct 50  # release 3: the file again, with a unit more
lakehouse quarantine fix transactions/103_Tran.csv 3 '2024-01-13|103|9|6' --who ana --why 'read from the till roll'
lakehouse quarantine waive --rule no_products --who ana --why 'no products were sold'  # releases 4 and 5
lakehouse pin 2 --why 'the audited one'
lakehouse stop

# What every home makes again by itself, or what nobody reads, is left out.
rm -rf $shop/home/{postgres,logs,data-docs} $shop/home/.exports.lock $shop/landing/sample.json
mkdir -p "$(dirname "$packed")"
tar -C $shop --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX -c home landing | xz -9e > "$packed"
ls -l "$packed"
