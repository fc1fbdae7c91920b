from ppo_worker.demo.task import HELD_OUT, TRAINING, held_out_prompts, training_prompts
from reward_trainer.fit.recipe import load_recipe
from reward_trainer.fit.splits import position

LEFT_OUT = ("gay-marriage-right-or-wrong", "is-porn-wrong-")


def test_prompts_are_topics_times_stances_times_templates() -> None:
    training, held_out = training_prompts(), held_out_prompts()
    assert (len(training), len(held_out)) == (10 * 2 * 4, 2 * 2 * 4)
    assert len({*training, *held_out}) == len(training) + len(held_out)
    assert "Firefox or Internet Explorer? Argue for: Firefox." in held_out


def test_the_held_out_topics_are_unknown_to_the_embedded_reward_model() -> None:
    recipe = load_recipe("default")
    [arguments] = [source for source in recipe.sources if source.root == "topic"]
    assert arguments.held_out is not None
    names = [*LEFT_OUT, *(topic.name for topic in (*TRAINING, *HELD_OUT))]
    order = sorted(names, key=lambda name: position(recipe.split_salt, f"topic:{name}"))
    tested = order[: arguments.held_out[1]]
    assert {topic.name for topic in HELD_OUT} <= {*tested}
