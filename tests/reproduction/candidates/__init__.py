"""Bad candidates made from the embedded model on real data, and the rules that reject them."""
