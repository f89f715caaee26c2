# What stands before every step has stored the epoch, or refused.
say done "epoch $epoch"
