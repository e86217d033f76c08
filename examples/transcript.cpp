// transcript -- shows what clients and server say to each other, and a line for each mail and session.
#include <Net/SMTP/Server.hpp>
#include <Net/SMTP/Server/Plugins/SessionLog.hpp>
#include <Net/SMTP/Server/Plugins/Transcript.hpp>

#include "arguments.hpp"

using namespace Net::SMTP;

int main(int argc, char** argv) {
    const Arguments given(argc, argv, "Takes every mail, and writes to its error output what is said.",
                          {listening, {"--json", "", "the lines of mails and sessions are JSON"}});
    Server server(given.all("--listen"));
    ready(server);

    Transcript(stderr).listen(server.pipeline());
    const auto print = [](std::string_view line) { std::puts(std::string(line).c_str()); };
    SessionLog(print, given.has("--json") ? SessionLog::Format::json : SessionLog::Format::key_value)
        .listen(server.pipeline());
    server.run([](Server::Client& client) { client.accept(); });
}
