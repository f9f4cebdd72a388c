"""What each recording of a real TGI router comes to, one row a file, one entry an exchange.

Streams go through the adapter that asks on that route (completions: the OpenAI one, which does not
ask there and must not take such a stream for a success, and neither a body that is no stream).
"""

from infra.engines.tgi_wire import Rendering
from processors.answers.engine import FinishReason
from tests.contracts.engines.drive import Failed, Outcome, Said

LENGTH, STOP = FinishReason.LENGTH, FinishReason.STOP
FAILED, REFUSED, OVERLOADED = Failed("EngineFailed"), Failed("EngineRefused"), Failed("Overloaded")
MODELS = ("stand-in-model",)


def words(first: int, count: int) -> tuple[str, ...]:
    """What the scripted shard says."""
    return tuple(f" w{number}" for number in range(first, first + count))


def tgi(
    count: int,
    reason: FinishReason,
    prompt_tokens: int,
    *,
    first: int = 0,
    counted: int | None = None,
) -> Outcome:
    """A whole stream of /generate_stream."""
    return Said(words(first, count), reason, prompt_tokens, counted or count)


def chat(count: int, reason: FinishReason, *, first: int = 0) -> Outcome:
    """A whole chat stream that does not say what it used."""
    return Said(words(first, count), reason)


def broke(count: int) -> Outcome:
    """A stream that failed after some words."""
    return Failed("EngineFailed", words(0, count))


EXPECTED: dict[str, list[object]] = {
    "01_info": [MODELS],
    "02_health": [True],
    "03_models": [MODELS],
    "04_metrics_before_any_request": [FAILED],
    "05_generate_details": [FAILED],
    "05z_metrics_after": [FAILED],
    "06_generate_plain": [FAILED],
    "07_generate_stream_details": [tgi(6, LENGTH, 8, first=3)],
    "08_generate_stream_plain_no_details": [Failed("EngineFailed", words(3, 6))],
    "09_generate_stream_stop": [tgi(4, STOP, 6)],
    "10_generate_stream_eos": [tgi(3, STOP, 14, counted=4)],
    "10b_generate_stream_eos_at_max": [tgi(3, LENGTH, 14, counted=4)],
    "11_generate_stream_utf8_halves": [Said((" w0", "", "é", " w1"), LENGTH, 14, 4)],
    "12_generate_stream_sampled_seed_topn_fulltext": [tgi(3, LENGTH, 6)],
    "13_generate_stream_decoder_input_details": [REFUSED],
    "14_generate_stream_best_of_2": [REFUSED],
    "15_root_stream_true": [tgi(6, LENGTH, 7, first=8)],
    "15A_chat_last_assistant_blank_tail": [Rendering("<|user|>q<|end|><|assistant|> w1 w2", 7)],
    "15B_chat_empty_assistant": [Rendering("<|user|>q<|end|><|assistant|><|end|><|assistant|>", 7)],
    "15C_assistant_last_short_text_a": [
        Rendering("<|user|>q<|end|><|assistant|>a<|end|><|assista", 16)
    ],
    "15D_assistant_last_text_occurs_in_marker": [
        Rendering("<|user|>q<|end|><|assistant|>assist<|end|><|assist", 20)
    ],
    "16_root_stream_false": [FAILED],
    "20_chat_stream": [chat(5, LENGTH)],
    "21_chat_stream_usage": [Said(words(0, 5), LENGTH, 10, 5)],
    "21b_chat_stream_eos": [chat(2, STOP)],
    "21c_chat_stream_stop_sequence": [chat(3, STOP)],
    "22_chat_plain": [FAILED],
    "23_chat_no_max_tokens_othermodel": [FAILED],
    "24_chat_top_p_1_stream": [REFUSED],
    "25_chat_top_p_1_plain": [REFUSED],
    "26_chat_no_messages_is_accepted": [chat(5, LENGTH)],
    "27_completions_stream": [FAILED],
    "27b_completions_stream_eos": [FAILED],
    "27c_completions_plain_eos": [FAILED],
    "28_completions_plain": [FAILED],
    "30_chat_tokenize": [Rendering("<|user|>hello w4<|end|><|assistant|>", 10)],
    "31_tokenize": [1],
    "32_generate_stream_of_templated_text": [tgi(2, LENGTH, 11)],
    "33_generate_stream_of_templated_text_without_bos": [tgi(2, LENGTH, 10)],
    "34_add_special_tokens_in_body": [tgi(2, LENGTH, 11)],
    "35_chat_tokenize_assistant_last": [
        Rendering("<|user|>hello w4<|end|><|assistant|> w5 w6", 12)
    ],
    "36_chat_stream_assistant_last": [chat(5, LENGTH, first=7)],
    "40_too_long_stream": [REFUSED],
    "41_too_long_plain": [REFUSED],
    "42_max_new_tokens_huge_plain": [REFUSED],
    "43_zero_tokens_stream": [REFUSED],
    "44_bad_json": [REFUSED],
    "45_wrong_type": [REFUSED],
    "46_no_content_type": [FAILED],
    "47_get_on_generate": [FAILED],
    "48_unknown": [FAILED],
    "49_payload_over_limit": [REFUSED],
    "50_unknown_field": [Failed("EngineFailed", words(0, 2))],
    "51_health_head": [True],
    "52_options_cors": [FAILED],
    "53_grammar_stream": [tgi(2, LENGTH, 2)],
    "54_connection_reuse_after_a_stream": [tgi(6, LENGTH, 6)],
    "60_err_stream": [broke(3)],
    "60_err_stream_health_after": [True],
    "60_err_stream_health_after2": [True],
    "61_err_first_token_stream": [FAILED],
    "61_err_first_token_stream_health_after": [True],
    "61_err_first_token_stream_health_after2": [True],
    "62_err_plain": [FAILED],
    "62_err_plain_health_after": [True],
    "62_err_plain_health_after2": [True],
    "63_err_chat_stream": [broke(3)],
    "63_err_chat_stream_health_after": [True],
    "63_err_chat_stream_health_after2": [True],
    "64_err_chat_plain": [FAILED],
    "64_err_chat_plain_health_after": [True],
    "64_err_chat_plain_health_after2": [True],
    "64b_err_completions_stream": [FAILED],
    "64b_err_completions_stream_health_after": [True],
    "64b_err_completions_stream_health_after2": [True],
    "65_err_of_a_batch_mate": [broke(8), broke(4)],
    "65_health": [True],
    "70_disconnect_stream": [broke(5)],
    "71_disconnect_chat_stream": [broke(5)],
    "72_disconnect_plain": [FAILED],
    "73_disconnect_completions_stream": [FAILED],
    "74_disconnect_one_of_two": [tgi(20, LENGTH, 6), broke(3)],
    "75_client_half_close": [broke(2)],
    "76_disconnect_during_prefill": [FAILED],
    "77_disconnect_rst": [broke(2)],
    "81_health_busy": [True],
    "90_overload_stream": [OVERLOADED],
    "91_overload_plain": [OVERLOADED],
    "92_overload_chat_stream": [OVERLOADED],
    "93_overload_chat_plain": [OVERLOADED],
    "94_overload_completions_stream": [OVERLOADED],
    "95_overload_root_stream": [OVERLOADED],
    "96_chat_tokenize_while_overloaded": [Rendering("<|user|>x<|end|><|assistant|>", 5)],
    "97_health_while_overloaded": [True],
    "99_slow_reader_does_not_stall_generation": [tgi(1, LENGTH, 2), tgi(1, LENGTH, 2)],
    "100_queued_behind_batch_size_1": [tgi(40, LENGTH, 7), tgi(3, LENGTH, 11)],
    "110a_api_key_missing_POST_generate": [FAILED],
    "110b_api_key_missing_POST_generate_stream": [FAILED],
    "110c_api_key_missing_POST_v1_chat_completions": [FAILED],
    "110d_api_key_missing_POST_tokenize": [401],
    "110e_api_key_missing_POST_chat_tokenize": [Rendering("<|user|>x<|end|><|assistant|>", 5)],
    "110f_api_key_missing_GET_info": [MODELS],
    "110g_api_key_missing_GET_metrics": [FAILED],
    "110h_api_key_missing_GET_health": [True],
    "110i_api_key_missing_GET_v1_models": [MODELS],
    "110j_api_key_missing_GET_root": [True],
    "110k_api_key_missing_POST_root": [FAILED],
    "111_api_key_Bearer_nope": [FAILED],
    "111_api_key_Bearer_sekret": [tgi(1, LENGTH, 2)],
    "111_api_key_bearer_SEKRET": [tgi(1, LENGTH, 2)],
    "111_api_key_sekret": [FAILED],
    "120_keepalive_comments_during_34s_stall": [tgi(5, LENGTH, 11), chat(4, LENGTH)],
    "140_sigterm_drains": [tgi(40, LENGTH, 2), chat(40, LENGTH)],
    "141_sigkill_of_the_router": [broke(3)],
    "142_shard_killed": [broke(6), broke(2), False, FAILED, FAILED],
    "143_shard_back": [True, tgi(3, LENGTH, 2)],
    "150_tools_and_format_stream_true": [REFUSED],
    "151_bad_tool_choice_stream_true": [REFUSED],
    "152_tools_stream": [FAILED],
    "153_n_2": [chat(2, LENGTH)],
    "155_empty_input": [REFUSED],
    "156_stop_list_of_5": [REFUSED],
    "157_stop_as_string": [REFUSED],
    "158_temperature_0": [REFUSED],
    "159_nul_byte_in_input": [tgi(2, LENGTH, 4)],
    "160_token_budget_head_of_line": [
        tgi(80, LENGTH, 4),
        tgi(80, LENGTH, 4),
        tgi(3, LENGTH, 6),
    ],
    "160b_health_while_queued": [True],
    "161_chunked_prefill": [tgi(3, LENGTH, 201)],
    "170_template_error_stream_true": [REFUSED],
    "171_template_error_plain": [REFUSED],
    "172_template_error_chat_tokenize": [422],
    "173_vanish_stream": [broke(2)],
    "174_vanish_plain": [FAILED],
    "175_vanish_chat_stream": [broke(2)],
    "176_vanish_first": [FAILED],
}
