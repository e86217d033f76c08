// Child -- a command that runs: fed, heard and ended; for our own .cpp files only, it is not installed.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "../Server/Content.hpp"
#include "../Server/Wait.hpp"
#include "FinalText.hpp"

namespace Net::SMTP {

// A process in a group of its own, with default signals, whose standard descriptors are three ends of two pipes and
// which has no others of ours. One thread uses it. A process that another thread forks meanwhile, and that execs
// nothing, has a copy of the end that writes: the command sees no end of its input before that process ends too.
class Child {
public:
    struct Start {
        std::vector<std::string> arguments;    // the first is the path of the program
        std::vector<std::string> environment;  // all of it
        std::string folder;                    // empty: ours
    };
    struct End {
        // `unknown`: somebody else has taken the status. `expired`: it did not end in time, and was ended.
        enum class How { exited, killed, unknown, expired } how;
        int value = 0;  // the exit code or the signal
    };

    // Starts it; std::system_error if that fails, and then nothing has run.
    explicit Child(const Start& start);
    // Kills what runs still, as at the end of run().
    ~Child();
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;

    // Feeds it, hears it, and returns when it has ended, whatever else holds its descriptors and however much of the
    // text it read. When `wait` is over its group gets SIGTERM, two seconds later SIGKILL; two seconds after that it is
    // given up. Its input ends only when the text did: never before it is killed. std::system_error when the text can't
    // be read.
    End run(FinalText& text, const Wait& wait);

    // Up to `most_said` octets of the first line that is not blank, of what it wrote to its output or its errors. No
    // control characters, and well-formed UTF-8: what is not is "?".
    std::string said() const;
    static constexpr std::size_t most_said = 512;

private:
    void turn(Deadline until, FinalText* text);
    void feed(FinalText&);
    void hear();
    void terminate();
    void kill_and_wait();
    bool ours() const;
    void signal(int) const;
    End reap();

    Descriptor input_, reader_, output_;
    Descriptor handle_;  // a pidfd: it means this process even when its number means another
    pid_t pid_ = -1;     // -1: reaped
    bool ended_ = false;
    std::string_view rest_;
    std::string line_;
    bool heard_ = false;  // the line is whole
};

}  // namespace Net::SMTP
