// transcript_lines -- what a transcript has written, from any thread, for the test's.
#pragma once

#include <Net/SMTP/Server/Plugins/Transcript.hpp>

#include "dialogue.hpp"

namespace test {

class Lines {
public:
    Transcript::Write write() const {
        return [state = state_](std::string_view line) {
            const std::lock_guard lock(state->mutex);
            state->lines.emplace_back(line);
        };
    }
    Names get() const {
        const std::lock_guard lock(state_->mutex);
        return state_->lines;
    }
    // What is behind time and session.
    Names said() const {
        auto all = get();
        for (auto& line : all) line.erase(0, line.find(' ', line.find(' ') + 1) + 1);
        return all;
    }
    bool holds(const std::string& text) const {
        return std::ranges::any_of(get(), [&](const auto& line) { return line.find(text) != line.npos; });
    }

private:
    struct State {
        std::mutex mutex;
        Names lines;
    };
    std::shared_ptr<State> state_ = std::make_shared<State>();
};

}  // namespace test
