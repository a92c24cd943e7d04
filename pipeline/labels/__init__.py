"""Labels: what people say, checked and counted; questions out, answers in."""
