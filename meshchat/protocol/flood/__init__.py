"""What is new, spread on every link: relayed, confirmed, and sent once more where it was missed."""
